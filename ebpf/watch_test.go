package ebpf_test

func playCalls() {}
