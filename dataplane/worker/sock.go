package worker

// sockState is the worker's part of a Sock; the driver does not touch it.
type sockState struct{}

// readBuf returns where the next bytes of k must be read to. It is the
// worker's one read buffer: valid until fed, eof or the end of the batch, and
// for this sock only. It has room for 64 KiB at least.
func (k *Sock) readBuf() []byte { return k.w.rbuf }

// fed tells that n > 0 bytes were read into readBuf.
func (k *Sock) fed(n int) {}

// eof tells that the peer sent a FIN (err is nil) or that reading failed.
func (k *Sock) eof(err error) {}

// writable tells that the socket takes bytes again. It writes what it can and
// reports whether the sock is still blocked.
func (k *Sock) writable() bool { return false }

// dialed is the answer to Driver.Dial.
func (k *Sock) dialed(err error) {}
