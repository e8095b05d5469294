// Package host is what this host is to containers: what its kernel and the daemon's own rights
// allow, which of its paths and devices a request names, and what its administrator wants of
// all containers. It looks and describes; what it changes is one thing, the AppArmor profile
// that it loads.
//
// A feature that is missing is a fact and no error. An administrator's file that cannot be
// understood is an error, for it may be there for safety.
package host
