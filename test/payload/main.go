// Command payload is what runs in the containers of whole-system tests: a static
// program whose output can be checked byte by byte.
//
//	payload lines N [SIZE [PER_SECOND]]  N numbered lines on stdout, padded to SIZE bytes, newline included
//	payload write FILE PER_SECOND CODE   numbered lines until FILE exists, bursts on SIGUSR1; their number, exit status CODE
//	payload both N                       N numbered lines on stdout and on stderr, alternating
//	payload raw HEX REPEAT               REPEAT times the bytes, nothing else
//	payload serve PORT                   an echo server on localhost
//	payload wait                         until SIGTERM, then exit status 0
//	payload spawn N                      N children that sleep, then wait
//	payload hog MIB                      touches memory, says "held" and holds it for ever
//	payload kill PID                     SIGKILL to the process
//	payload abort                        SIGABRT to itself, with the default action
//	payload fault [NUMBER TIMES]         reads an address that is not there, with the default action, after system calls
//	payload bus FILE MIB                 writes so much into the file through memory, with the default action of SIGBUS
//	payload illegal                      an instruction that no processor has, with the default action
//	payload vfork                        waits in the kernel for a child that does not execute anything
//	payload hostile [NUMBER]             forty things and more that a container may not do, once each, and the system call
//	payload syscall NUMBER [TIMES]       the system call, with zero arguments
//	payload cost NUMBER TIMES            the system call; says how many nanoseconds of CPU time one took
//	payload watch PATH                   an inotify watch, then until SIGTERM
//	payload pulse NUMBER                 says "beating" and makes the system call every millisecond until SIGTERM
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail("no verb")
	}
	switch os.Args[1] {
	case "lines":
		lines(number(2, 0), number(3, 0), number(4, 0))
	case "write":
		writer(os.Args[2], number(3, 100), number(4, 0))
	case "both":
		both(number(2, 0))
	case "raw":
		raw(os.Args[2], number(3, 1))
	case "serve":
		serve(os.Args[2])
	case "wait":
		wait()
	case "spawn":
		spawn(number(2, 1))
	case "hog":
		hog(number(2, 1))
	case "kill":
		if err := syscall.Kill(number(2, 0), syscall.SIGKILL); err != nil {
			fail(err.Error())
		}
	case "abort":
		abort()
	case "fault":
		fault(number(2, 0), number(3, 0))
	case "bus":
		bus(os.Args[2], number(3, 1))
	case "illegal":
		illegal()
	case "vfork":
		vfork()
	case "hostile":
		hostile(number(2, -1))
	case "syscall":
		repeat(number(2, 0), number(3, 1))
	case "cost":
		cost(number(2, 0), number(3, 1))
	case "watch":
		watch(os.Args[2])
	case "pulse":
		pulse(number(2, 0))
	default:
		fail("unknown verb " + os.Args[1])
	}
}

// lines writes blocks of whole lines, 60 kB at most, as a busy program would. A
// line is its number in ten digits and padding. Only the numbers are written anew from
// block to block: whoever measures a reader must not wait for this program.
func lines(n, size, perSecond int) {
	size = max(size, 11)
	room := max(1, 60000/size)
	line := append(bytes.Repeat([]byte{'.'}, size-1), '\n')
	block := bytes.Repeat(line, room)
	digits := []byte("0000000000")
	from := time.Now()
	full := 0 // lines in the block
	for i := range n {
		copy(block[full*size:], digits)
		increment(digits)
		full++
		due := perSecond > 0 && i%64 == 63
		if full == room || due {
			write(os.Stdout, block[:full*size])
			full = 0
		}
		if due {
			time.Sleep(time.Until(from.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		}
	}
	write(os.Stdout, block[:full*size])
}

// increment adds one to a decimal number.
func increment(digits []byte) {
	for i := len(digits) - 1; i >= 0; i-- {
		if digits[i] != '9' {
			digits[i]++
			return
		}
		digits[i] = '0'
	}
}

func both(n int) {
	for i := range n {
		write(os.Stdout, fmt.Appendf(nil, "%010d\n", i))
		write(os.Stderr, fmt.Appendf(nil, "%010d\n", i))
	}
}

func raw(text string, repeat int) {
	chunk, err := hex.DecodeString(text)
	if err != nil {
		fail(err.Error())
	}
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	for range repeat {
		out.Write(chunk)
	}
	if err := out.Flush(); err != nil {
		os.Exit(3)
	}
}

func serve(port string) {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fail(err.Error())
	}
	fmt.Println("serving", port)
	for {
		c, err := l.Accept()
		if err != nil {
			fail(err.Error())
		}
		go func() {
			io.Copy(c, c)
			c.(*net.TCPConn).CloseWrite()
			c.Close()
		}()
	}
}

func wait() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("waiting")
	<-c
	fmt.Println("terminated")
}

func watch(path string) {
	fd, err := syscall.InotifyInit()
	if err != nil {
		fail("inotify_init: " + err.Error())
	}
	if _, err := syscall.InotifyAddWatch(fd, path, syscall.IN_MODIFY); err != nil {
		fail("inotify_add_watch " + path + ": " + err.Error())
	}
	wait()
}

func spawn(n int) {
	for range n {
		if err := exec.Command("/bin/sleep", "86400").Start(); err != nil {
			fail(err.Error())
		}
	}
	wait()
}

func write(f *os.File, b []byte) {
	if _, err := f.Write(b); err != nil {
		os.Exit(3)
	}
}

func number(i, absent int) int {
	if len(os.Args) <= i {
		return absent
	}
	n, err := strconv.Atoi(os.Args[i])
	if err != nil || n < 0 {
		fail("not a count: " + os.Args[i])
	}
	return n
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "payload:", why)
	os.Exit(2)
}
