package ebpf

import (
	"testing"

	cebpf "github.com/cilium/ebpf"
)

// Older kernels look at more states of a program than this one does, and give up at a
// million instructions: none may come near it here.
func TestProgramsAreFarFromTheVerifiersLimit(t *testing.T) {
	p := load(t)
	looked := 0
	look := func(name string, program *cebpf.Program) {
		info, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, known := info.VerifiedInstructions()
		if !known {
			t.Skip("the kernel does not tell how much it has verified (Linux 5.16)")
		}
		looked++
		t.Logf("%s: %d", name, n)
		if n > 200_000 {
			t.Errorf("%s: %d instructions were verified", name, n)
		}
	}
	eachAttached(t, p, func(program *cebpf.Program) {
		about, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		look(about.Name, program)
	})
	o, err := newObserver(p)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	for name, program := range o.programs {
		look(name, program)
	}
	if looked < 8 {
		t.Errorf("only %d programs", looked)
	}
}
