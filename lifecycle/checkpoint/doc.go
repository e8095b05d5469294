// Package checkpoint is a container on disk: the directory in which a checkpoint is put together
// or taken apart, the archive that comes of it, and criu, which writes processes down and
// takes them up. Which container is paused or made for it, and when, is not decided here.
//
// An archive that is opened is not trusted, nor is what criu makes of it: Snapshot takes it
// apart inside bounds, SameProcess compares what it claims with what is asked for, and
// Confined asks the kernel what came of it, before any of it runs (docs/decisions/0095, 0096).
package checkpoint
