// Package discovery finds the endpoints of clusters whose addresses are names:
// STRICT_DNS, where every address of an answer is a host, and LOGICAL_DNS,
// where one address at a time stands for the service.
//
// A Resolver follows the names of one cluster. It looks each of them up again
// and again, by its own schedule, and hands complete Assignments to the
// cluster's owner. Names that cannot be resolved keep the addresses they had.
//
// The package does not balance load, check health or open connections; a name
// server is reached through Lookup, which System implements with
// /etc/hosts and /etc/resolv.conf.
package discovery
