package call

import "strings"

// retryConditions are the words of retry_on that are about HTTP and its
// connections.
var retryConditions = map[string]RetryOn{
	"5xx":                  Retry5xx,
	"gateway-error":        RetryGatewayError,
	"reset":                RetryReset,
	"reset-before-request": RetryResetBeforeRequest,
	"connect-failure":      RetryConnectFailure,
	"refused-stream":       RetryRefusedStream,
	"retriable-4xx":        RetryRetriable4xx,
}

// retryGRPC are the words of retry_on that name a grpc-status: all that Envoy
// knows.
var retryGRPC = map[string]Code{
	"cancelled":          Canceled,
	"deadline-exceeded":  DeadlineExceeded,
	"internal":           Internal,
	"resource-exhausted": ResourceExhausted,
	"unavailable":        Unavailable,
}

// AddRetryOn adds the conditions in a list of words separated by commas
// (RetryPolicy.retry_on, x-envoy-retry-on, x-envoy-retry-grpc-on). It returns
// the words it does not know.
func (p *RetryPolicy) AddRetryOn(list string) (unknown []string) {
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		code, grpc := retryGRPC[word]
		switch {
		case word == "":
		case retryConditions[word] != 0:
			p.On |= retryConditions[word]
		case grpc:
			p.GRPCCodes |= 1 << code
		default:
			unknown = append(unknown, word)
		}
	}
	return unknown
}
