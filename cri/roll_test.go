package cri

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Whatever comes, goes and changes: what the receiver decodes is the list, each value is
// encoded once, and of a long list nearly all is sent as it was before.
func TestListsAreSentFromWhatIsEncodedAlready(t *testing.T) {
	encodings := 0
	r := newRoll(func(c *pod.Container) pod.ID { return c.ID }, func(c *pod.Container) proto.Message {
		encodings++
		return containerItem(c)
	})
	random := rand.New(rand.NewPCG(1, 2))
	one := func(n int) *pod.Container {
		return &pod.Container{ID: pod.NewID(), State: pod.Created, Config: pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{
			Metadata: &runtime.ContainerMetadata{Name: fmt.Sprint("c", n)}, Labels: map[string]string{"n": fmt.Sprint(n % 7)},
		}}}
	}
	var all []*pod.Container
	for n := range 600 {
		all = append(all, one(n))
	}
	check := func(filter *runtime.ContainerFilter) {
		t.Helper()
		want := &runtime.ListContainersResponse{Containers: described(all, containerFilter(filter), containerItem)}
		items, n, err := r.list(all, containerFilter(filter))
		if err != nil {
			t.Fatal(err)
		}
		got := &runtime.ListContainersResponse{}
		if err := proto.Unmarshal(items.Materialize(), got); err != nil {
			t.Fatal(err)
		}
		if n != len(want.Containers) || !proto.Equal(got, want) {
			t.Fatalf("the receiver decodes %d items, %d are said, want %d", len(got.Containers), n, len(want.Containers))
		}
	}
	check(nil)
	values := len(all)
	copied := 0
	for n := range 100 {
		before := map[*sheet[pod.Container]]bool{}
		for _, s := range r.sheets {
			before[s] = true
		}
		switch i := random.IntN(len(all)); n % 4 {
		case 0: // a new one
			all, values = slices.Insert(all, 0, one(n)), values+1
		case 1: // one goes
			all = slices.Delete(all, i, i+1)
		default: // one is in another state
			next := *all[i]
			next.State = pod.Running
			all[i], values = &next, values+1
		}
		if n%10 == 0 {
			check(&runtime.ContainerFilter{State: &runtime.ContainerStateValue{State: runtime.ContainerState_CONTAINER_RUNNING}})
			check(&runtime.ContainerFilter{LabelSelector: map[string]string{"n": "3"}})
		}
		check(nil)
		for _, s := range r.sheets {
			if !before[s] {
				copied += len(s.objects)
			}
		}
	}
	if encodings != values {
		t.Errorf("%d values were encoded, there were %d", encodings, values)
	}
	if each := copied / 100; each > 4*sheetObjects {
		t.Errorf("a change copies %d of %d items", each, len(all))
	}
	all = nil
	check(nil)
	if len(r.sheets)+len(r.first) != 0 {
		t.Errorf("%d sheets of nothing", len(r.sheets))
	}
}

// The answers have one field, the items, with the number that the roll writes: a version
// of CRI that adds another is to be noticed.
func TestEncodedListsHaveNoOtherField(t *testing.T) {
	for answer, item := range map[proto.Message]proto.Message{
		&runtime.ListContainersResponse{}: &runtime.Container{}, &runtime.ListPodSandboxResponse{}: &runtime.PodSandbox{},
	} {
		fields := answer.ProtoReflect().Descriptor().Fields()
		if f := fields.ByNumber(itemsField); fields.Len() != 1 || f == nil || !f.IsList() || f.Message() != item.ProtoReflect().Descriptor() {
			t.Errorf("%T is not a list of %T in field %d alone", answer, item, itemsField)
		}
	}
}

// A server without ServerOption sends the same bytes.
func TestEncodedAnswerIsAMessageToEveryCodec(t *testing.T) {
	c := &runtime.Container{}
	fillFields(c.ProtoReflect(), 0)
	r := newRoll(func(*int) pod.ID { return "00" }, func(*int) proto.Message { return c })
	items, _, err := r.list([]*int{new(int), new(int), new(int)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := encoding.GetCodecV2("proto")
	for name, codec := range map[string]encoding.CodecV2{"plain": plain, "ours": codec{plain}} {
		raw, err := codec.Marshal(ready{&runtime.ListContainersResponse{}, items})
		if err != nil {
			t.Fatal(name, err)
		}
		got := &runtime.ListContainersResponse{}
		if err := codec.Unmarshal(raw, got); err != nil {
			t.Fatal(name, err)
		}
		if want := (&runtime.ListContainersResponse{Containers: []*runtime.Container{c, c, c}}); !proto.Equal(got, want) {
			t.Errorf("%s: received %v, want %v", name, got, want)
		}
	}
}

// fillFields gives every field of a message a value.
func fillFields(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		scalar := func(kind protoreflect.FieldDescriptor) protoreflect.Value {
			switch kind.Kind() {
			case protoreflect.StringKind:
				return protoreflect.ValueOfString(string(f.Name()) + "-é")
			case protoreflect.Int64Kind:
				return protoreflect.ValueOfInt64(int64(f.Number()) << 40)
			case protoreflect.Uint32Kind:
				return protoreflect.ValueOfUint32(uint32(f.Number()))
			case protoreflect.BoolKind:
				return protoreflect.ValueOfBool(true)
			case protoreflect.EnumKind:
				return protoreflect.ValueOfEnum(1)
			}
			panic("a field of kind " + kind.Kind().String())
		}
		switch {
		case f.IsMap():
			m.Mutable(f).Map().Set(protoreflect.ValueOfString("key").MapKey(), scalar(f.MapValue()))
		case f.Kind() == protoreflect.MessageKind && !f.IsList() && depth < 5:
			fillFields(m.Mutable(f).Message(), depth+1)
		case f.IsList():
			m.Mutable(f).List().Append(scalar(f))
		default:
			m.Set(f, scalar(f))
		}
	}
}

// A list of 5,000 of which one has changed, up to the bytes that gRPC takes.
func BenchmarkListOf5000(b *testing.B) {
	r := newRoll(func(c *pod.Container) pod.ID { return c.ID }, func(c *pod.Container) proto.Message { return containerItem(c) })
	all := make([]*pod.Container, 5000)
	for n := range all {
		all[n] = &pod.Container{ID: pod.NewID(), SandboxID: pod.NewID(), State: pod.Running, Config: pod.ContainerConfig{ContainerConfig: &runtime.ContainerConfig{
			Metadata: &runtime.ContainerMetadata{Name: fmt.Sprint("c", n)}, Labels: map[string]string{"app": "shop", "io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "shop"},
			Annotations: map[string]string{"io.kubernetes.container.restartCount": "0", "io.kubernetes.container.hash": "5f1d"},
		}}}
	}
	for name, keep := range map[string]func(*pod.Container) bool{
		"all": nil, "running": containerFilter(&runtime.ContainerFilter{State: &runtime.ContainerStateValue{State: runtime.ContainerState_CONTAINER_RUNNING}}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				next := *all[n%len(all)]
				all[n%len(all)] = &next
				items, _, err := r.list(all, keep)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := (codec{}).Marshal(ready{&runtime.ListContainersResponse{}, items}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
