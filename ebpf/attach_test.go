package ebpf

import (
	"testing"

	"github.com/cilium/ebpf/btf"
)

// Both programs load on both kernels, so the choice is by the arguments alone.
func TestMarkVictimIsChosenByTheKernelsArguments(t *testing.T) {
	data := btf.FuncParam{Type: &btf.Pointer{Target: &btf.Void{}}}
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	for _, c := range []struct {
		name  string
		first btf.Type
		want  string
	}{
		{"6.1", number, programsProgMarkVictimPid},
		{"6.1 with pid_t", &btf.Typedef{Name: "pid_t", Type: number}, programsProgMarkVictimPid},
		{"6.18", &btf.Pointer{Target: &btf.Struct{Name: "task_struct"}}, programsProgMarkVictim},
	} {
		b, err := btf.NewBuilder([]btf.Type{&btf.Typedef{Name: "btf_trace_mark_victim", Type: &btf.Pointer{
			Target: &btf.FuncProto{Return: &btf.Void{}, Params: []btf.FuncParam{data, {Type: c.first}}}}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := b.Spec()
		if err != nil {
			t.Fatal(err)
		}
		if have := markVictim(spec); have != c.want {
			t.Errorf("%s: %s, want %s", c.name, have, c.want)
		}
		if tracepoint(spec, "no_such") != nil {
			t.Errorf("%s has a tracepoint it has not", c.name)
		}
	}
}
