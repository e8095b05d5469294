// Package pod owns the nouns of the runtime: identifiers, sandboxes, containers,
// their states and the table of legal moves, exits, events, sentinel errors, and
// the store that keeps one record per object on disk.
//
// It never acts: it starts no process, mounts nothing, and imports no other room.
// The only system calls are those of the store, which writes records beside
// their place and renames them, so that a reader sees the old record or the new
// one and never half of either.
//
// Values are immutable by convention. A Sandbox or Container is copied, changed
// and handed to lifecycle's one door; nobody writes a field of a value that has
// been published.
package pod
