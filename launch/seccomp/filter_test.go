//go:build cgo

package seccomp

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
)

// build makes a filter that refuses mkdir.
func build(t *testing.T, names ...string) *ScmpFilter {
	t.Helper()
	f, err := NewFilter(ActAllow)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, "mkdir") {
		call, err := GetSyscallFromName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.AddRule(call, ActErrno.SetReturnCode(1)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func exported(t *testing.T, f *ScmpFilter) []byte {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := f.ExportBPF(w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestOfferIsTakenOnlyForTheSameRules(t *testing.T) {
	var compiled []Offer
	Compiled = func(o Offer) { compiled = append(compiled, o) }
	defer func() { Compiled, offer = nil, nil }()

	plain := exported(t, build(t))
	if len(compiled) != 1 || !bytes.Equal(compiled[0].Program, plain) {
		t.Fatalf("%d filters were compiled", len(compiled))
	}
	marked := Offer{Key: compiled[0].Key, Program: append(bytes.Clone(plain), plain[len(plain)-8:]...)}
	if got := exported(t, build(t, marked.SyscallName())); !bytes.Equal(got, marked.Program) {
		t.Error("the offer for these rules was not taken")
	}
	if got := exported(t, build(t, marked.SyscallName(), "rmdir")); bytes.Equal(got, marked.Program) || len(compiled) != 2 {
		t.Error("an offer for other rules was taken")
	}
	if got := exported(t, build(t, offerMark+"damaged")); len(got) == 0 {
		t.Error("a damaged offer prevents a filter")
	}
}

func TestNamesAreResolvedPerArchitecture(t *testing.T) {
	for _, c := range []struct {
		name string
		arch ScmpArch
		want ScmpSyscall
	}{{"read", ArchAMD64, 0}, {"read", ArchX86, 3}, {"read", ArchARM64, 63}, {"openat2", ArchX86, 437}} {
		if got, err := GetSyscallFromNameByArch(c.name, c.arch); err != nil || got != c.want {
			t.Errorf("%s on %v: %d, %v", c.name, c.arch, got, err)
		}
	}
	for _, name := range []string{"", "nosuch", string(make([]byte, 100))} {
		if _, err := GetSyscallFromName(name); !errors.Is(err, ErrSyscallDoesNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestValuesAreTheKernels(t *testing.T) {
	if got := ActErrno.SetReturnCode(38); got != 0x00050026 {
		t.Errorf("errno 38 is %#x", uint32(got))
	}
	if got := ActAllow.SetReturnCode(1); got != ActAllow {
		t.Errorf("allow with a code is %#x", uint32(got))
	}
	native, err := GetNativeArch()
	if err != nil || native.String() == "" {
		t.Errorf("native architecture %v, %v", native, err)
	}
	if _, err := MakeCondition(6, CompareEqual, 1); err == nil {
		t.Error("a seventh argument was accepted")
	}
	if err := new(ScmpFilter).AddArch(ArchX86); err == nil {
		t.Error("a zero filter was accepted")
	}
}

func FuzzParseOffer(f *testing.F) { // property: what is accepted is written back as it was
	f.Add(Offer{Program: make([]byte, 8)}.SyscallName())
	f.Fuzz(func(t *testing.T, name string) {
		o, err := ParseOffer(name)
		if err != nil {
			return
		}
		if again, err := ParseOffer(o.SyscallName()); err != nil || again.Key != o.Key || !bytes.Equal(again.Program, o.Program) {
			t.Fatalf("%q", name)
		}
	})
}
