// Package refuser finds out who refused a container a path. Behind EPERM and EACCES stand several,
// and the kernel names only those with a tracepoint of their own; some of the others can be
// told by what is left when the container, its specification and the path are looked at.
// What cannot be told stays a "permission" (docs/decisions/0180).
package refuser
