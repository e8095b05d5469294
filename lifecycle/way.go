package lifecycle

import (
	"path/filepath"

	"go.opentelemetry.io/otel/attribute"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// enterPath is where vitrine-enter is: beside the launcher.
func (m *Manager) enterPath() string {
	return filepath.Join(filepath.Dir(m.config.LaunchPath), "vitrine-enter")
}

// wayOf is who made a container, by what its launcher said: launch.WayEnter, a reason for
// libcontainer, or nothing.
func wayOf(h Handler, said string) string {
	switch {
	case h.external():
		return "runtime"
	case said == launch.WayEnter:
		return said
	}
	return "libcontainer"
}

// wayAttributes are those of the creation's span. The reason is for people.
func wayAttributes(way, said string) []attribute.KeyValue {
	attrs := []attribute.KeyValue{telemetry.KeyWay.String(way)}
	if said != "" && said != launch.WayEnter {
		attrs = append(attrs, telemetry.KeyWayCause.String(said))
	}
	return attrs
}
