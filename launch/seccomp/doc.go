//go:build cgo

// Package seccomp stands in for github.com/seccomp/libseccomp-golang under that
// module's name (go.mod's replace directive): it has the part of its interface that
// libcontainer uses, over the same C library, and one ability more. It can be handed
// a filter that was compiled before.
//
// Compiling the default profile takes libseccomp about 15 ms, more than all else that
// the creation of a container needs; loading the result takes 0.3 ms. So a Filter
// only writes down what it is told, and compiles when its program is asked for.
// If somebody has offered a program whose key is the hash of exactly what was written
// down, that program is the answer, and the C library is not asked.
//
// The invariant: with an offer or without, right or wrong, the exported program is the
// one that libseccomp makes of these rules. An offer saves time and decides nothing.
package seccomp
