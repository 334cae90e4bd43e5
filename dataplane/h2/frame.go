package h2

// frameType is the type octet of a frame (RFC 9113 §6).
type frameType uint8

const (
	frameData         frameType = 0x0
	frameHeaders      frameType = 0x1
	framePriority     frameType = 0x2
	frameRSTStream    frameType = 0x3
	frameSettings     frameType = 0x4
	framePushPromise  frameType = 0x5
	framePing         frameType = 0x6
	frameGoAway       frameType = 0x7
	frameWindowUpdate frameType = 0x8
	frameContinuation frameType = 0x9
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const frameHeaderLen = 9

// settingID names a parameter of SETTINGS (RFC 9113 §6.5.2).
type settingID uint16

const (
	settingHeaderTableSize       settingID = 0x1
	settingEnablePush            settingID = 0x2
	settingMaxConcurrentStreams  settingID = 0x3
	settingInitialWindowSize     settingID = 0x4
	settingMaxFrameSize          settingID = 0x5
	settingMaxHeaderListSize     settingID = 0x6
	settingEnableConnectProtocol settingID = 0x8 // RFC 8441
	settingNoRFC7540Priorities   settingID = 0x9 // RFC 9218
)

const (
	settingLen    = 6
	initialWindow = 65535     // RFC 9113 §6.9.2
	maxWindow     = 1<<31 - 1 // RFC 9113 §6.9.1
	maxStreamID   = 1<<31 - 1
	noHeaderLimit = 1 << 62
	// defaultPeerStreams is how many streams a client opens before it knows
	// the server's limit; the RFC advises at least 100.
	defaultPeerStreams = 100
)
