// Command vitrine-monitor stands beside one container: package monitor describes it. The daemon
// starts it and hands it its first connection; run as "vitrine-monitor pause" it is the
// first process of a shared pid namespace.
package main

import (
	"syscall"

	"github.com/vitrine-runtime/vitrine/monitor"
)

// version is stamped by the Makefile.
var version = "0.1.0-dev"

func main() { syscall.Exit(monitor.Main(version)) }
