// Package relay joins one downstream stream to its upstream attempts: an
// Exchange is one RPC on its way through the proxy.
//
// It decides nothing about where a call goes (call.Director and
// call.BackendSet do) and owns no connection (package worker does). It moves
// headers, DATA and trailers between two h2.Conns without copying while the
// receiver takes them, keeps deadlines, answers locally when there is nobody
// else to answer, and retries what was certainly never seen, or what the
// route's policy allows to retry.
//
// Everything runs under the worker's lock. No call here blocks, and none
// starts a goroutine.
package relay
