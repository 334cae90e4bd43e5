package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-proxy/sluice/test/echo"
)

// weights are the two states the demo shifts between: blue, green.
var weights = [2][2]int{{80, 20}, {20, 80}}

// tally counts the calls of one second.
type tally struct {
	calls, errors int
	by            map[string]int // instance -> calls
	lastErr       error
}

// counter is what the callers add to.
type counter struct {
	mu  sync.Mutex // guards cur
	cur tally
}

func (c *counter) add(instance string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.cur.errors++
		c.cur.lastErr = err
		return
	}
	c.cur.calls++
	if c.cur.by == nil {
		c.cur.by = map[string]int{}
	}
	c.cur.by[instance]++
}

// take returns the tally since the last take.
func (c *counter) take() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.cur
	c.cur = tally{}
	return t
}

// green returns the share of calls that the green cluster answered, in percent.
func (t tally) green() float64 {
	if t.calls == 0 {
		return 0
	}
	return 100 * float64(t.by["green-1"]) / float64(t.calls)
}

// watch runs the callers, prints a line per second and shifts the weights:
// once in the middle of a bounded run, every ten seconds otherwise.
func (w *world) watch(ctx context.Context, o options) error {
	var c counter
	stopCallers := w.startCallers(ctx, &c)
	defer stopCallers()

	begin := time.Now()
	period := 10 * time.Second
	var end <-chan time.Time
	if o.length > 0 {
		period = o.length / 2
		t := time.NewTimer(o.length)
		defer t.Stop()
		end = t.C
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	shift := time.NewTicker(period)
	defer shift.Stop()

	state, total := 0, tally{}
	var before, after tally // before the first shift; the last second
	for {
		select {
		case <-tick.C:
			t := c.take()
			total.calls, total.errors = total.calls+t.calls, total.errors+t.errors
			if t.lastErr != nil {
				total.lastErr = t.lastErr
			}
			if state == 0 {
				before = t
			}
			after = t
			printLine(time.Since(begin), t)
		case <-shift.C:
			if o.length > 0 && state != 0 {
				continue
			}
			old, next := weights[state%2], weights[(state+1)%2]
			if err := w.setWeights(old, next); err != nil {
				if o.length > 0 {
					return err
				}
				fmt.Printf("       -- %v; the demo leaves it alone\n", err)
				shift.Stop()
				continue
			}
			state++
			fmt.Printf("       -- rewrote routes.yaml: blue %d -> %d, green %d -> %d\n", old[0], next[0], old[1], next[1])
		case err := <-w.died:
			return err
		case <-end:
			stopCallers()
			t := c.take()
			total.calls, total.errors = total.calls+t.calls, total.errors+t.errors
			if t.lastErr != nil {
				total.lastErr = t.lastErr
			}
			return verdict(total, before, after)
		case <-ctx.Done():
			stopCallers()
			t := c.take()
			total.calls, total.errors = total.calls+t.calls, total.errors+t.errors
			fmt.Printf("\n%d calls, %d errors\n", total.calls, total.errors)
			if total.errors > 0 {
				return errFailedCalls
			}
			return nil
		}
	}
}

func verdict(total, before, after tally) error {
	fmt.Printf("\n%d calls, %d errors; green's share went from %.0f %% to %.0f %%\n", total.calls, total.errors, before.green(), after.green())
	switch {
	case total.errors > 0:
		return fmt.Errorf("%w: %d of %d calls failed, the last with: %w", errFailedCalls, total.errors, total.errors+total.calls, total.lastErr)
	case total.calls == 0:
		return fmt.Errorf("%w: no call was made", errFailedCalls)
	case before.green() > 40 || after.green() < 60:
		return fmt.Errorf("%w: green's share should go from about 20 %% to about 80 %%", errFailedCalls)
	}
	return nil
}

func printLine(at time.Duration, t tally) {
	var b strings.Builder
	names := make([]string, 0, len(t.by))
	for n := range t.by {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		pct := 100 * float64(t.by[n]) / float64(max(t.calls, 1))
		fmt.Fprintf(&b, "  %s %3.0f %% %-10s", n, pct, strings.Repeat("█", int(pct/10+0.5)))
	}
	fmt.Printf("%4.0f s  %6d calls  %d errors%s\n", at.Seconds(), t.calls, t.errors, b.String())
	if t.lastErr != nil {
		fmt.Printf("        last error: %v\n", t.lastErr)
	}
}

// startCallers runs callers against both proxies, half of them unary, half as
// streams. The returned function stops them and waits; it may be called again.
func (w *world) startCallers(ctx context.Context, c *counter) func() {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range w.o.callers {
		wg.Go(func() {
			cc, err := w.dial(i % len(proxies))
			if err != nil {
				c.add("", err)
				return
			}
			defer cc.Close()
			cl := echo.NewEchoClient(cc)
			for n := 0; ctx.Err() == nil; n++ {
				instance, err := "", error(nil)
				if i%4 < 2 {
					instance, err = say(cl)
				} else {
					instance, err = chat(cl)
				}
				c.add(instance, err)
				pause(ctx, 5*time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

const callTimeout = 10 * time.Second

func say(cl echo.EchoClient) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	r, err := cl.Say(ctx, &echo.SayRequest{Text: "hello"})
	return r.GetInstance(), err
}

// chat makes one bidirectional stream of three messages.
func chat(cl echo.EchoClient) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	st, err := cl.Chat(ctx)
	if err != nil {
		return "", err
	}
	instance := ""
	for range 3 {
		// A failed Send says io.EOF only; Recv has the call's status.
		_ = st.Send(&echo.SayRequest{Text: "hello"})
		r, err := st.Recv()
		if err != nil {
			return "", err
		}
		instance = r.GetInstance()
	}
	if err := st.CloseSend(); err != nil {
		return "", err
	}
	switch _, err := st.Recv(); {
	case err == nil:
		return "", errors.New("a fourth answer to three messages")
	case !errors.Is(err, io.EOF):
		return "", err
	}
	return instance, nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// setWeights rewrites the route's weights, replacing the file in one step.
func (w *world) setWeights(old, next [2]int) error {
	b, err := os.ReadFile(w.routesFile())
	if err != nil {
		return err
	}
	for i, name := range []string{"blue", "green"} {
		from := fmt.Appendf(nil, "name: %s, weight: %d ", name, old[i])
		if !bytes.Contains(b, from) {
			return fmt.Errorf("%s was edited (no %q in it)", w.routesFile(), from)
		}
		b = bytes.Replace(b, from, fmt.Appendf(nil, "name: %s, weight: %d ", name, next[i]), 1)
	}
	tmp := filepath.Join(w.dir, "routes.yaml.new")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, w.routesFile())
}
