// Package telemetry owns what the daemon says about itself: spans, metrics, logs,
// the receiver for what monitors report, the exporters, and the node's own memory
// of its last traces. It knows nothing of the rooms that speak through it.
package telemetry
