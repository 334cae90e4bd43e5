package listener

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Table chooses filter chains. Immutable, safe for concurrent use.
//
// It is a tree with one level for each of Envoy's nine steps. A step goes to
// the most specific branch that fits the connection, else to the branch of the
// chains that ask nothing there, and never comes back: if that branch has no
// chain for the rest, the default chain is the answer, however well another
// branch would have done (envoy.config.listener.v3.FilterChainMatch).
type Table struct {
	chains []*Chain
	def    *Chain
	root   byPort
}

// The levels of the tree. A zero key stands for "asks nothing".
type (
	byPort       = level[uint16, byAddress]    // 1: destination port
	byAddress    = cidrs[byName]               // 2: destination address
	byName       = level[string, byTransport]  // 3: server name; ".example.com" is the wildcard
	byTransport  = level[string, byProtocol]   // 4: transport protocol
	byProtocol   = level[string, byDirect]     // 5: application protocol
	byDirect     = cidrs[byType]               // 6: directly connected source address
	byType       = level[SourceType, bySource] // 7: source type
	bySource     = cidrs[bySourcePort]         // 8: source address
	bySourcePort = level[uint16, leaf]         // 9: source port
)

// leaf is the index in Table.chains, plus one.
type leaf int

// level is a step that compares values for equality.
type level[K comparable, V any] struct{ branches map[K]*V }

// under returns the branch of k, made if it is new.
func (l *level[K, V]) under(k K) *V {
	v := l.branches[k]
	if v == nil {
		if l.branches == nil {
			l.branches = make(map[K]*V)
		}
		v = new(V)
		l.branches[k] = v
	}
	return v
}

// at returns the branch of k, nil if there is none.
func (l *level[K, V]) at(k K) *V {
	if l == nil {
		return nil
	}
	return l.branches[k]
}

// pick returns the branch of k, else the one that asks nothing, else nil.
func (l *level[K, V]) pick(k K) *V {
	if v := l.at(k); v != nil {
		return v
	}
	var nothing K
	return l.at(nothing)
}

// NewTable compiles the matches of chains; def (or nil) takes what none of
// them takes. It fails, naming both, if two chains could take the same
// connection with the same precedence.
func NewTable(chains []*Chain, def *Chain) (*Table, error) {
	t := &Table{chains: slices.Clone(chains), def: def}
	normals := make([]Match, len(chains))
	var errs []error
	for i, ch := range chains {
		m, err := ch.Match.normal()
		if err != nil {
			errs = append(errs, fmt.Errorf("filter chain %s: %w", label(chains, i), err))
			continue
		}
		normals[i] = m
		for _, other := range t.add(&m, i) {
			switch {
			case other == i:
				errs = append(errs, fmt.Errorf("filter chain %s has the same value twice in its matching rules", label(chains, i)))
			case m.equal(&normals[other]):
				errs = append(errs, fmt.Errorf("filter chain %s has the same matching rules defined as %s", label(chains, i), label(chains, other)))
			default:
				errs = append(errs, fmt.Errorf("multiple filter chains with overlapping matching rules are defined: %s and %s", label(chains, other), label(chains, i)))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if def != nil {
		t.chains = append(t.chains, def)
	}
	return t, nil
}

// add enters a normal match for chain i under each combination of its values.
// It returns the chains that already had one of them, each once.
func (t *Table) add(m *Match, i int) (others []int) {
	for _, dst := range m.DestinationRanges {
		for _, name := range m.ServerNames {
			for _, alpn := range m.ApplicationProtocols {
				for _, direct := range m.DirectSourceRanges {
					for _, src := range m.SourceRanges {
						for _, port := range m.SourcePorts {
							l := t.root.under(m.DestinationPort).under(dst).under(name).under(m.TransportProtocol).
								under(alpn).under(direct).under(m.SourceType).under(src).under(port)
							if *l == 0 {
								*l = leaf(i + 1)
							} else if other := int(*l) - 1; !slices.Contains(others, other) {
								others = append(others, other)
							}
						}
					}
				}
			}
		}
	}
	return others
}

// Choose returns the chain of a connection, nil if none takes it.
func (t *Table) Choose(in *Info) *Chain {
	transport := in.TransportProtocol
	if transport == "" {
		transport = TransportRaw
	}
	direct := in.Direct
	if !direct.IsValid() {
		direct = in.Remote.Addr()
	}
	names := t.root.pick(in.Local.Port()).pick(in.Local.Addr())
	protocols := pickName(names, in.ServerName).pick(transport)
	types := pickProtocol(protocols, in.ALPN).pick(direct)
	l := pickType(types, in).pick(in.Remote.Addr()).pick(in.Remote.Port())
	if l == nil {
		return t.def
	}
	return t.chains[*l-1]
}

// pickName prefers the name itself, then the longest wildcard.
func pickName(l *byName, name string) *byTransport {
	name = strings.ToLower(name)
	if v := l.at(name); v != nil {
		return v
	}
	for i := 1; i < len(name)-1; i++ {
		if name[i] == '.' {
			if v := l.at(name[i:]); v != nil {
				return v
			}
		}
	}
	return l.at("")
}

// pickProtocol takes the client's first protocol that any chain asks for.
func pickProtocol(l *byProtocol, offered []string) *byDirect {
	for _, p := range offered {
		if v := l.at(p); v != nil {
			return v
		}
	}
	return l.at("")
}

func pickType(l *byType, in *Info) *bySource {
	if in.local() {
		return l.pick(SourceLocal)
	}
	return l.pick(SourceExternal)
}

// Chains returns all chains in configuration order, the default one last. The
// caller must not change the slice.
func (t *Table) Chains() []*Chain { return t.chains }

// label names a chain in an error; one without a name by its place.
func label(chains []*Chain, i int) string {
	if name := chains[i].Name; name != "" {
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("filter_chains[%d]", i)
}
