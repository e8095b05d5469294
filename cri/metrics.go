package cri

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// ListMetricDescriptors tells what metrics there are. It is the same for the daemon's life.
func (s *runtimeService) ListMetricDescriptors(context.Context, *runtime.ListMetricDescriptorsRequest) (*runtime.ListMetricDescriptorsResponse, error) {
	response := &runtime.ListMetricDescriptorsResponse{}
	huge := len(s.pods.HugepageSizes()) > 0
	for _, f := range families {
		if !huge && slices.Contains(f.keys, keyPageSize) {
			continue // a host without huge pages has no series of it either
		}
		response.Descriptors = append(response.Descriptors, &runtime.MetricDescriptor{
			Name: f.name, Help: f.help, LabelKeys: slices.Concat(baseLabels, f.keys),
		})
	}
	return response, nil
}

// ListPodSandboxMetrics tells the metrics of ready pods and their running containers.
func (s *runtimeService) ListPodSandboxMetrics(ctx context.Context, _ *runtime.ListPodSandboxMetricsRequest) (*runtime.ListPodSandboxMetricsResponse, error) {
	items, err := s.listPodMetrics(ctx)
	if err != nil {
		return nil, err
	}
	response := &runtime.ListPodSandboxMetricsResponse{PodMetrics: items}
	return response, fits(proto.Size(response), len(items), "StreamPodSandboxMetrics")
}

// StreamPodSandboxMetrics is ListPodSandboxMetrics in pieces.
func (s *runtimeService) StreamPodSandboxMetrics(_ *runtime.StreamPodSandboxMetricsRequest, out grpc.ServerStreamingServer[runtime.StreamPodSandboxMetricsResponse]) error {
	items, err := s.listPodMetrics(out.Context())
	if err != nil {
		return err
	}
	return inChunks(items, func(items []*runtime.PodSandboxMetrics) error {
		return out.Send(&runtime.StreamPodSandboxMetricsResponse{PodSandboxMetrics: items})
	})
}

func (s *Server) listPodMetrics(ctx context.Context) ([]*runtime.PodSandboxMetrics, error) {
	pods, err := s.podFigures(ctx)
	if err != nil {
		return nil, err
	}
	var items []*runtime.PodSandboxMetrics
	for _, p := range pods {
		item := &runtime.PodSandboxMetrics{PodSandboxId: string(p.Sandbox.ID), Metrics: metricsOf(podSubject(p))}
		for i := range p.Containers {
			item.ContainerMetrics = append(item.ContainerMetrics, &runtime.ContainerMetrics{
				ContainerId: string(p.Containers[i].Container.ID),
				Metrics:     metricsOf(containerSubject(p.Sandbox, &p.Containers[i])),
			})
		}
		items = append(items, item)
	}
	return items, nil
}

// podFigures reads ready pods. One that goes away or cannot be read is left out, and
// so is one container of a pod; the others stay.
func (s *Server) podFigures(ctx context.Context) ([]lifecycle.SandboxStats, error) {
	all := sideBySide(s.readySandboxes(), func(sb *pod.Sandbox) (lifecycle.SandboxStats, bool) { return s.figures(ctx, sb, s.pods.SandboxFigures) })
	return all, ctx.Err()
}

// metricsOf goes through the table. The timestamp is 0, which says that the values
// were read for this call.
func metricsOf(one *subject) []*runtime.Metric {
	metrics := make([]*runtime.Metric, 0, len(families))
	for _, f := range families {
		kind := runtime.MetricType_GAUGE
		if f.kind == telemetry.Counter {
			kind = runtime.MetricType_COUNTER
		}
		f.read(one, func(raw uint64, values ...string) {
			metrics = append(metrics, &runtime.Metric{
				Name: f.name, MetricType: kind, LabelValues: slices.Concat(one.labels, values), Value: value(raw / f.unit),
			})
		})
	}
	return metrics
}

func podSubject(p lifecycle.SandboxStats) *subject {
	m := p.Sandbox.Config.GetMetadata()
	one := &subject{
		CgroupStats: p.Cgroup, at: p.At, started: p.Sandbox.CreatedAt,
		labels: []string{p.Sandbox.CgroupParent, string(p.Sandbox.ID), "", "", m.GetNamespace(), m.GetName()},
	}
	for _, i := range p.Interfaces {
		if i.Name != "lo" {
			i.Name = strings.ToValidUTF8(i.Name, "�") // the kernel takes any bytes, protobuf does not
			one.interfaces = append(one.interfaces, i)
		}
	}
	one.nameDevices()
	return one
}

func containerSubject(sb pod.Sandbox, c *lifecycle.Stats) *subject {
	m := sb.Config.GetMetadata()
	image := c.Container.Image.User
	if image == "" {
		image = c.Container.Image.ID
	}
	one := &subject{
		CgroupStats: c.Cgroup, at: c.At, started: c.Container.StartedAt, container: c,
		labels: []string{
			c.Container.Cgroup, string(c.Container.ID), image, c.Container.Config.GetMetadata().GetName(), m.GetNamespace(), m.GetName(),
		},
	}
	if c.Container.Resources != nil {
		one.resources = c.Container.Resources.LinuxContainerResources
	}
	one.nameDevices()
	return one
}

func (s *subject) nameDevices() {
	if s.IO == nil {
		return
	}
	for _, d := range s.IO.Devices {
		s.devices = append(s.devices, lifecycle.DeviceName(d))
	}
}
