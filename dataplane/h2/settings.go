package h2

import (
	"encoding/binary"
	"math"
)

// writeSettings sends our SETTINGS and opens the connection window. A client's
// preface goes first.
func (c *Conn) writeSettings() {
	if c.role == Client {
		c.room(len(Preface))
		c.out.append([]byte(Preface))
	}
	var buf [8 * settingLen]byte
	p := buf[:0]
	set := func(id settingID, v uint32) {
		p = binary.BigEndian.AppendUint16(p, uint16(id))
		p = binary.BigEndian.AppendUint32(p, v)
	}
	if c.cfg.HeaderTable != 4096 {
		set(settingHeaderTableSize, c.cfg.HeaderTable)
	}
	if c.role == Client {
		set(settingEnablePush, 0)
	} else {
		set(settingMaxConcurrentStreams, c.cfg.MaxConcurrentStreams)
		if c.cfg.ExtendedConnect {
			set(settingEnableConnectProtocol, 1)
		}
	}
	set(settingInitialWindowSize, uint32(c.cfg.StreamWindow))
	set(settingMaxHeaderListSize, uint32(c.cfg.MaxHeaderBytes))
	copy(c.control(len(p), frameSettings, 0, 0), p)
	c.probe(false)
	c.settingsAt = max(1, c.now)
	c.wantAfter(c.now, c.cfg.SettingsTimeout)
	if d := c.cfg.ConnWindow - c.recvWin; d > 0 {
		c.recvWin += d
		c.writeWindowUpdate(0, d)
	}
}

// recvSettings: RFC 9113 §6.5.
func (c *Conn) recvSettings(id uint32, flags uint8, p []byte) {
	if id != 0 {
		c.protocolError("SETTINGS on a stream")
		return
	}
	if flags&flagAck != 0 {
		c.recvSettingsAck(p)
		return
	}
	if len(p)%settingLen != 0 {
		c.frameSizeError("SETTINGS")
		return
	}
	if !c.settings.take(c.now, c.lim.SettingsBurst, c.lim.SettingsRate) {
		c.fail(ErrCodeEnhanceYourCalm, &c.ctr.ControlFlood, "too many SETTINGS")
		return
	}
	window, peak := c.peerWindow, c.peerWindow
	limited := false
	for ; len(p) > 0; p = p[settingLen:] {
		v := be32(p[2:])
		switch settingID(binary.BigEndian.Uint16(p)) {
		case settingInitialWindowSize:
			if v > maxWindow {
				c.fail(ErrCodeFlowControl, &c.ctr.ProtocolErrors, "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1")
				return
			}
			window = int64(v)
			peak = max(peak, window)
		case settingMaxConcurrentStreams:
			c.peerMaxStreams, limited = v, true
		default:
			if !c.applySetting(settingID(binary.BigEndian.Uint16(p)), v) {
				return
			}
		}
	}
	if !c.applyWindow(window, peak) {
		return
	}
	if !c.gotSettings && !limited {
		c.peerMaxStreams = math.MaxUint32 // no limit (RFC 9113 §6.5.2)
	}
	if !c.gotSettings {
		c.gotSettings = true
		c.scheduleKeepalive()
	}
	c.control(0, frameSettings, flagAck, 0)
	c.checkControl()
	if !c.dead {
		c.h.OnConn(ConnEvent{Kind: EventSettings})
	}
}

// applySetting takes any setting but the window. false: the connection failed.
func (c *Conn) applySetting(id settingID, v uint32) bool {
	ok := true
	switch id {
	case settingHeaderTableSize:
		c.enc.SetMaxTable(v)
	case settingEnablePush:
		ok = v == 0 || v == 1 && c.role == Server
	case settingMaxHeaderListSize:
		if c.role == Client {
			c.peerMaxHeaders = int64(v)
		}
	case settingMaxFrameSize: // ours are 16 KiB, which everyone takes
		ok = v >= MaxFrame && v < 1<<24
	case settingEnableConnectProtocol:
		ok = v <= 1 && (v == 1 || !c.peerConnect)
		c.peerConnect = v == 1
	case settingNoRFC7540Priorities:
		ok = v <= 1
	}
	if !ok {
		c.protocolError("SETTINGS value out of range")
	}
	return ok
}

// applyWindow moves every stream's send window (RFC 9113 §6.9.2), possibly
// below zero. One frame may set it many times: only the last value counts, but
// none may overflow.
func (c *Conn) applyWindow(window, peak int64) bool {
	delta, high := window-c.peerWindow, peak-c.peerWindow
	if delta == 0 && high == 0 {
		return true
	}
	c.peerWindow = window
	for s := c.tab.first; s != nil; s = s.next {
		if s.sendWin+high > maxWindow {
			c.fail(ErrCodeFlowControl, &c.ctr.FlowViolation, "SETTINGS_INITIAL_WINDOW_SIZE moved a window over 2^31-1")
			return false
		}
		s.sendWin += delta
		c.unblock(s)
	}
	return true
}

// recvSettingsAck makes our own settings count: until now the peer was right
// to use the old ones.
func (c *Conn) recvSettingsAck(p []byte) {
	if len(p) != 0 {
		c.frameSizeError("SETTINGS ACK")
		return
	}
	if c.settingsAt == 0 {
		c.protocolError("SETTINGS ACK without SETTINGS")
		return
	}
	c.settingsAt = 0
	c.probeAnswered(false)
	c.dec.SetMaxTable(c.cfg.HeaderTable)
	delta := c.cfg.StreamWindow - c.recvInit
	if delta == 0 {
		return
	}
	c.recvInit = c.cfg.StreamWindow
	for s := c.tab.first; s != nil; s = s.next {
		s.window += delta
		s.recvWin += delta
		c.updateStream(s)
	}
}
