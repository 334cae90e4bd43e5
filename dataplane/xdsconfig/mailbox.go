package xdsconfig

import "sync"

// mailbox brings work to the configuration goroutine. Posting never blocks, so
// that whoever the configuration goroutine calls may post.
type mailbox struct {
	wake chan struct{} // holds one token while there is something in queue

	mu    sync.Mutex // guards queue
	queue []func()
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

func (b *mailbox) post(f func()) {
	b.mu.Lock()
	b.queue = append(b.queue, f)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns what was posted, in order.
func (b *mailbox) take() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue
	b.queue = nil
	return q
}
