package cluster

import (
	"fmt"
	"testing"

	"github.com/sluice-proxy/sluice/dataplane/call"
)

// shapes are clusters of every picker, for the allocation test and benchmarks.
func shapes(n int) map[string]func(testing.TB) *Cluster {
	unequal := equalHosts(n)
	for i := range unequal.Localities[0].Endpoints {
		unequal.Localities[0].Endpoints[i].Weight = uint32(1 + i*7919%1000)
	}
	out := make(map[string]func(testing.TB) *Cluster)
	for _, kind := range []PolicyKind{RoundRobin, LeastRequest, Random} {
		for name, a := range map[string]*Assignment{"equal": equalHosts(n), "weighted": unequal} {
			out[fmt.Sprintf("%v/%s", kind, name)] = func(t testing.TB) *Cluster {
				return newCluster(t, unlimited(Policy{Kind: kind}), a)
			}
		}
	}
	return out
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, n := range []int{1, 10, 1000} {
		for name, build := range shapes(n) {
			h := NewHandle("c")
			h.Set(build(t))
			rnd := random(1)
			cl := &call.Call{}
			o := &call.Outcome{}
			tried := []call.Host{nil}
			got := testing.AllocsPerRun(200, func() {
				cl.Draw, cl.Tried = rnd.Uint64(), nil
				host, err := h.Pick(cl, 0)
				if err != nil {
					t.Fatal(err)
				}
				h.Done(host, o)
				tried[0] = host
				cl.Tried = tried
				if host, err = h.Pick(cl, 1); err != nil {
					t.Fatal(err)
				}
				h.Done(host, o)
			})
			if got != 0 {
				t.Errorf("%s of %d hosts: %v allocations", name, n, got)
			}
		}
	}
}

// One worker's view: pick and done, alone and with all workers at it.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 10, 1000, 100_000} {
		for name, build := range shapes(n) {
			c := build(b)
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				cl := &call.Call{}
				o := &call.Outcome{}
				rnd := random(1)
				for b.Loop() {
					cl.Draw = rnd.Uint64()
					h, _ := c.Pick(cl, 0)
					c.Done(h, o)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/parallel", name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					cl := &call.Call{}
					o := &call.Outcome{}
					rnd := random(1)
					for pb.Next() {
						cl.Draw = rnd.Uint64()
						h, _ := c.Pick(cl, 0)
						c.Done(h, o)
					}
				})
			})
		}
	}
}

// An update that means the same, and one that changes a weight.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		for _, same := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d/same=%v", n, same), func(b *testing.B) {
				b.ReportAllocs()
				x, y := equalHosts(n), equalHosts(n)
				if !same {
					y.Localities[0].Endpoints[n/2].Weight = 2
				}
				c := newCluster(b, Config{}, x)
				for b.Loop() {
					c.Update(y)
					x, y = y, x
				}
			})
		}
	}
}
