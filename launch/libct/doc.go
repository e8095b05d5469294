// Package libct is the only user of libcontainer: it creates containers, starts
// processes in them and removes them, natively, inside the short-lived process
// vitrine-launch. For handlers with an OCI runtime of their own it drives that runtime's
// command line instead (external.go).
//
// One process runs one request. A created container's init, or a process of an exec
// session, is left behind alive; when the launcher exits, the process is reparented to
// the nearest subreaper, which is the monitor that spawned the launcher. The
// standard streams of the launcher become those of the process.
//
// The launcher's binary is also what libcontainer executes as the container's init
// (argument "init"): Init is that side. The two sides report their progress through
// libcontainer's own debug log, which init.go stamps with times at the source and
// timeline.go turns into launch.Steps, so that a trace explains a create without a
// single patched line of libcontainer.
//
// The package keeps one invariant: an operation that answers with an error leaves no
// process, cgroup, mount or state directory behind.
package libct
