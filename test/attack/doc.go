// Package attack tests what a hostile peer can do to the real binary: each
// attack that dataplane/h2 has a limit for runs against a listener, bounded in
// rate and time, while other clients make calls on the same listener. They must
// all succeed and stay fast; memory must come back; the limit's counter must
// move and the attacker must see the documented reaction.
//
//	go test ./test/attack -v                    every attack for a second
//	go test ./test/attack -v -attack.time 10s   for longer
//	go test ./test/attack -v -attack.baseline   and measure each dummy run too
//
// docs/abuse.md has the table of limits and results; from this folder,
//
//	go test -attack.baseline -attack.page ../../docs/abuse.md
//
// measures and writes it.
package attack
