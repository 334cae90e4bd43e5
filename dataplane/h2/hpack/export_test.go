package hpack

// NeverIndexed tells whether the field is sent as a never-indexed literal
// (RFC 7541 section 6.2.3).
func (f *Field) NeverIndexed() bool { return f.flag&flagNever != 0 }

// SetNeverIndexed makes the field a never-indexed literal. There is no way
// back.
func (f *Field) SetNeverIndexed() { f.flag |= flagNever }

// Repeats tells whether the field was met before, so that the encoder may
// index it.
func (f *Field) Repeats() bool { return f.flag&flagRepeats != 0 }
