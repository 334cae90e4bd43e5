package discovery

import "context"

func (r *Resolver) run(ctx context.Context) { <-ctx.Done() }
