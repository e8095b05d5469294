package telemetry

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Attribute keys. Where OpenTelemetry's semantic conventions have a name it is
// used; ours begin with "vitrine.". Spans that carry one of the first six are found
// by it (GET /v1/traces?pod=…).
const (
	KeyPodUID        = attribute.Key("k8s.pod.uid")
	KeyPodName       = attribute.Key("k8s.pod.name")
	KeyNamespace     = attribute.Key("k8s.namespace.name")
	KeySandboxID     = attribute.Key("vitrine.sandbox.id")
	KeyContainerID   = attribute.Key("container.id")
	KeyContainerName = attribute.Key("k8s.container.name")

	// KeyRestartCount is kubelet's attempt number of the container.
	KeyRestartCount = attribute.Key("k8s.container.restart_count")
	// KeyImageName is the image as the pod's author wrote it, KeyImageID its config digest.
	KeyImageName = attribute.Key("container.image.name")
	KeyImageID   = attribute.Key("container.image.id")
	// KeyHandler is the runtime handler, unless it is the default one; it becomes a metric
	// label, bounded.
	KeyHandler = attribute.Key("vitrine.runtime.handler")
	// KeyCNIPlugin and KeyCNICommand are on network.cni spans.
	KeyCNIPlugin  = attribute.Key("vitrine.cni.plugin")
	KeyCNICommand = attribute.Key("vitrine.cni.command")
	// KeyNRIPlugin and KeyNRIEvent are on nri.plugin spans; the event also on nri.event.
	KeyNRIPlugin = attribute.Key("vitrine.nri.plugin")
	KeyNRIEvent  = attribute.Key("vitrine.nri.event")
	// KeyImageBytes is how much of an image a step moved, KeyImageEndpoint the host it came from.
	KeyImageBytes    = attribute.Key("vitrine.image.bytes")
	KeyImageEndpoint = attribute.Key("vitrine.image.endpoint")
	// KeyImageTransport is what it came over: http, https, or h2, which is HTTP/2 with TLS.
	KeyImageTransport = attribute.Key("vitrine.image.transport")
	// KeyDecompressSeconds and KeyWriteSeconds are on image.layer.apply: how long the
	// decompressor and the writer of files were at work, without their waiting for others.
	KeyDecompressSeconds = attribute.Key("vitrine.image.decompress_seconds")
	KeyWriteSeconds      = attribute.Key("vitrine.image.write_seconds")
	// KeyImageCachedBytes is how much of an image a step need not move: it was there.
	KeyImageCachedBytes = attribute.Key("vitrine.image.cached_bytes")
	// KeyImageForeign is the platform of a pulled image that is not this node's.
	KeyImageForeign = attribute.Key("vitrine.image.foreign")
	// KeyFreedBytes is how much disk space a step gave back, as it was last measured.
	KeyFreedBytes = attribute.Key("vitrine.storage.freed_bytes")
	// KeyLinkKind says on a link what the other span is: create, start, stop, previous.
	KeyLinkKind = attribute.Key("vitrine.link.kind")
	// KeyExitCode is a process's exit status (semconv process.exit.code).
	KeyExitCode = attribute.Key("process.exit.code")
	// KeyMinorFaults, KeyMajorFaults and KeyReadBytes are on spans of a container's start:
	// what its process had used by then, the bytes read from disks. KeyPort is its port.
	KeyMinorFaults = attribute.Key("vitrine.start.minor_faults")
	KeyMajorFaults = attribute.Key("vitrine.start.major_faults")
	KeyReadBytes   = attribute.Key("vitrine.start.read_bytes")
	KeyPort        = attribute.Key("vitrine.start.port")
	// KeyWay is who made a container, enter, libcontainer or runtime; KeyWayCause why not the first.
	KeyWay      = attribute.Key("vitrine.create.way")
	KeyWayCause = attribute.Key("vitrine.create.way_cause")
	// KeySpare says whether a creation's monitor was a spare one, used, began for it because
	// there was none, missed, or because none is kept, off.
	KeySpare = attribute.Key("vitrine.create.spare")
	// KeyErrorType is the class of a failure, a small set of words (semconv error.type).
	KeyErrorType = attribute.Key("error.type")
)

// SandboxAttributes are the identity of a pod: what every span about it carries.
func SandboxAttributes(s pod.Sandbox) []attribute.KeyValue {
	m := s.Config.GetMetadata()
	return nonEmpty(
		KeySandboxID.String(string(s.ID)),
		KeyNamespace.String(m.GetNamespace()),
		KeyPodName.String(m.GetName()),
		KeyPodUID.String(m.GetUid()),
		KeyHandler.String(s.Handler),
	)
}

// ContainerAttributes are the identity of a container and its pod.
func ContainerAttributes(s pod.Sandbox, c pod.Container) []attribute.KeyValue {
	m := c.Config.GetMetadata()
	attrs := append(SandboxAttributes(s), nonEmpty(
		KeyContainerID.String(string(c.ID)),
		KeyContainerName.String(m.GetName()),
		KeyImageName.String(c.Image.User),
	)...)
	return append(attrs, KeyRestartCount.Int64(int64(m.GetAttempt())))
}

func nonEmpty(attrs ...attribute.KeyValue) []attribute.KeyValue {
	kept := attrs[:0]
	for _, a := range attrs {
		if a.Value.AsString() != "" {
			kept = append(kept, a)
		}
	}
	return kept
}
