package listener

import (
	"net/netip"
	"slices"
)

// cidrs maps address ranges to values; the longest range that holds an address
// wins. The value under any stands for no range at all and is the last resort.
type cidrs[T any] struct {
	byRange map[netip.Prefix]*T
	bits4   []int // lengths of the IPv4 ranges, longest first, each once
	bits6   []int
	any     *T
}

// under returns the value of a range, made if it is new. The zero range is any.
func (c *cidrs[T]) under(p netip.Prefix) *T {
	if !p.IsValid() {
		if c.any == nil {
			c.any = new(T)
		}
		return c.any
	}
	v := c.byRange[p]
	if v == nil {
		if c.byRange == nil {
			c.byRange = make(map[netip.Prefix]*T)
		}
		v = new(T)
		c.byRange[p] = v
		bits := &c.bits6
		if p.Addr().Is4() {
			bits = &c.bits4
		}
		i, found := slices.BinarySearchFunc(*bits, p.Bits(), func(have, want int) int { return want - have })
		if !found {
			*bits = slices.Insert(*bits, i, p.Bits())
		}
	}
	return v
}

// pick returns the value of the longest range that holds ip, or that of any;
// nil if there is neither. As in Envoy, the address of a Unix socket is
// 255.255.255.255: no range but 0.0.0.0/0 holds it.
func (c *cidrs[T]) pick(ip netip.Addr) *T {
	if c == nil {
		return nil
	}
	if !ip.IsValid() {
		ip = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	ip = ip.Unmap().WithZone("")
	bits := c.bits6
	if ip.Is4() {
		bits = c.bits4
	}
	for _, n := range bits {
		p, _ := ip.Prefix(n)
		if v := c.byRange[p]; v != nil {
			return v
		}
	}
	return c.any
}
