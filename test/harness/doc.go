// Package harness runs the real daemon for whole-system tests, the demo, the bench
// and the torture runs: it builds the binaries once, gives each daemon its own
// root, socket, cgroup parent and CNI network, drives it over its CRI socket, and
// takes a census of everything on the host that belongs to it.
//
// Nothing here knows the daemon's packages: what it shows is what a kubelet and a
// person with a shell would see. It kills, unmounts and deletes only what carries
// the mark of its own instance, so that several instances, also of other test
// binaries, run side by side on one host.
package harness
