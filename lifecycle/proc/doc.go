// Package proc tells what the kernel says of processes on this host, and ends them. It keeps
// nothing and changes nothing but what End is asked for.
//
// A pid alone names nobody: the number is given again. So a process is known by its pid and
// the time of its start (pod.Process, Alive), and is killed by a pidfd.
package proc
