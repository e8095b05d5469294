// Command vitrine-monitor stands beside one container: package monitor describes it. The daemon
// starts it and hands it its first connection; run as "vitrine-monitor pause" it is the
// first process of a shared pid namespace.
package main

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/monitor"
)

func main() { syscall.Exit(monitor.Main()) }
