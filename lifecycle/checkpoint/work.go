package checkpoint

import "path/filepath"

// Work is the path of a directory in which one container's checkpoint is put together or taken
// apart. Its owner makes it, mode 0700, and removes it: there is memory of processes in it.
//
//	images/    criu's images
//	criu/      its log and statistics
//	changes    the archive of changed files
//	deleted    the list of deleted ones, JSON
//	log        the container's log so far
//	spec       the OCI specification
type Work string

func (w Work) in(name string) string { return filepath.Join(string(w), name) }

// Images is the directory of criu's images.
func (w Work) Images() string { return w.in("images") }

// Criu is the directory of criu's log and statistics.
func (w Work) Criu() string { return w.in("criu") }

// Changes is the archive of files that the container has created or changed.
func (w Work) Changes() string { return w.in("changes") }

func (w Work) deleted() string { return w.in("deleted") }
func (w Work) log() string     { return w.in("log") }
func (w Work) spec() string    { return w.in("spec") }
