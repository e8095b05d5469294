package lifecycle

import (
	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/lifecycle/events"
	"github.com/vitrine-runtime/vitrine/network"
)

// Subscription is a reader's queue of events.
type Subscription = events.Subscription

// CgroupStats are a cgroup's figures, passed on as the cgroup room read them.
type CgroupStats = cgroup.Stats

// PSI is pressure stall information, as the cgroup room read it.
type PSI = cgroup.PSI

// DeviceIO is one block device's traffic.
type DeviceIO = cgroup.DeviceIO

// DeviceName is a block device's name, or its numbers.
func DeviceName(d DeviceIO) string { return cgroup.DeviceName(d.Major, d.Minor) }

// Interface is a network interface's figures, passed on as the network room read them.
type Interface = network.Interface
