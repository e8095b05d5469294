// Package monitor is the process that stands beside one container for as long as the
// container lives: parent and subreaper of its init, reader of its output, writer of
// its log and of its exit record.
//
//	                 control socket (monitor/wire)
//	daemon ◄───────────────────────────────┐
//	                                       │
//	stdout, stderr ──pipe or pty──► ┌──────┴──────┐ ──► log file (monitor/logfile)
//	stdin ◄─────────────────────────┤   monitor   ├ ──► attached clients
//	init, exec processes ──exit───► └──────┬──────┘ ──► exit record, then whoever is connected
//	                                       └──fork──► vitrine-launch (create, exec, delete)
//
// One goroutine runs one epoll loop over descriptors that never block; the file types
// of this package are the things in that loop. A second one takes it over while a call to
// the log's file system does not return (guard.go). No daemon is needed for anything that a
// running container does: a connection that ends is nothing, and another may come at
// any time.
//
// Invariants: the exit record is on disk before anyone is told; no client, daemon or
// disk makes the container wait, but for what its own pipe holds; every descriptor is
// close-on-exec; nothing is allocated while output flows, and an idle monitor is not
// woken. SIGTERM and its like are ignored: only SIGKILL ends a monitor, and the
// container survives even that: the daemon puts another in place (ledger.go,
// adopt.go). A running monitor replaces its own program (upgrade.go).
//
// The package is paid for once per container. It imports no fmt, net, os, time or
// encoding package: look at what an import adds before adding it.
package monitor
