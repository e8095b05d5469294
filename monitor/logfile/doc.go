// Package logfile writes a container's output to a file in the format that kubelet
// reads (CRI log):
//
//	2006-01-02T15:04:05.000000000Z stdout F content\n
//
// One record per line; a line longer than the limit is cut into records tagged P
// (partial), of which only the last is tagged F (full). Joining the contents, with a
// line end after each F, gives the stream back byte for byte; only a last line
// without a line end gets one, because collectors wait for the F that ends a line.
//
// A rotated file is final when Reopen returns: a line that has not ended goes to the
// new file, but for those of its records that stand in the old one already.
//
// Records are never split: every write ends at the end of one, and what a failed
// write left of one is cut off again. Within a stream order is kept and timestamps
// never go backwards. A Writer never waits for a disk to get better: what cannot be
// written is counted, and marked in the file once writing works again.
//
// The package is linked into every monitor: raw system calls, no allocation after
// Open, buffers outside the Go heap which Release gives back.
package logfile
