package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Retry says how a request is tried again. The zero value has the defaults.
type Retry struct {
	// For is how long after the first attempt the last one may begin.
	// 0: two minutes. Negative: there is one attempt only.
	For time.Duration
	// Min is the first wait; each further one is twice as long. 0: 100 ms.
	Min time.Duration
	// Max is the longest wait, also when the server asks for more. 0: 30 s.
	Max time.Duration
	// Notify, if not nil, is told before each wait what went wrong.
	Notify func(err error, wait time.Duration)
}

func (r Retry) withDefaults() Retry {
	if r.For == 0 {
		r.For = 2 * time.Minute
	}
	if r.Min <= 0 {
		r.Min = 100 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 30 * time.Second
	}
	r.Min = min(r.Min, r.Max)
	return r
}

// do calls attempt until it succeeds, fails for good, or the time is up.
func (r Retry) do(ctx context.Context, attempt func(context.Context) error) error {
	start := time.Now()
	backoff := r.Min
	for tries := 1; ; tries++ {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		asked, again := temporary(err)
		if !again || r.For < 0 {
			return err
		}
		// Half of the wait is random, so that clients that were refused together do not
		// come back together.
		wait := backoff/2 + rand.N(backoff/2+1)
		wait = min(max(wait, asked), r.Max)
		backoff = min(2*backoff, r.Max)
		if time.Since(start)+wait > r.For {
			return fmt.Errorf("gave up after %d attempts in %s: %w", tries, time.Since(start).Round(time.Millisecond), err)
		}
		if r.Notify != nil {
			r.Notify(err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
