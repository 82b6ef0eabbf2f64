// Command supervisor owns the processes of one cluster and takes away everything that the cluster left on the machine.
//
//	supervisor run STATE          start parts on request (JSON lines on standard input), stop all of them at its end
//	supervisor clean STATE        remove what a cluster left whose supervisor is dead
//	supervisor credentials DIR    write the keys and certificates of a new cluster
//
// It is a program of its own because its parent, a test, may be killed at any moment: it notices by the end of its
// input. Should it be killed itself, the kernel kills the parts, and `clean` finds the rest by what was recorded.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func init() {
	// Pdeathsig is bound to the thread that starts a part, not to the process. The main goroutine starts all parts
	// and keeps the main thread for itself, which lives as long as the process.
	runtime.LockOSThread()
}

func main() {
	if len(os.Args) != 3 {
		usage()
	}
	var err error
	switch command, folder := os.Args[1], os.Args[2]; command {
	case "run":
		err = run(folder)
	case "clean":
		err = cleanDead(folder)
	case "credentials":
		err = writeCredentials(folder)
	default:
		usage()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "supervisor: %v\n", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: supervisor run|clean STATE, or supervisor credentials DIR")
	os.Exit(2)
}
