// Clientcost makes calls in a closed loop through one clientv3, and prints the CPU time that this process
// spent on each, in microseconds:
//
//	clientcost put|get http://127.0.0.1:2379 TASKS CALLS
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	keys       = 1000
	valueBytes = 256
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 5 {
		log.Fatal("clientcost put|get ENDPOINT TASKS CALLS")
	}
	operation, endpoint := os.Args[1], os.Args[2]
	tasks, calls := number(os.Args[3]), number(os.Args[4])
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	check(err)
	value := strings.Repeat("\x07", valueBytes)
	put := func(key string) {
		_, err := client.Put(context.Background(), key, value)
		check(err)
	}
	call := put
	if operation == "get" {
		call = func(key string) {
			answer, err := client.Get(context.Background(), key)
			check(err)
			if len(answer.Kvs) == 0 {
				log.Fatal("the key is not there")
			}
		}
	} else if operation != "put" {
		log.Fatalf("%s: put or get", operation)
	}
	// Every key is there, and everything is warm.
	run(put, tasks, keys)
	run(call, tasks, calls/10)
	before := cpuMicros()
	run(call, tasks, calls)
	fmt.Printf("%.3f\n", float64(cpuMicros()-before)/float64(calls))
}

func run(call func(key string), tasks, calls int) {
	var next atomic.Int64
	var done sync.WaitGroup
	for range tasks {
		done.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(calls) {
					return
				}
				call("cost/" + strconv.FormatInt(n%keys, 10))
			}
		})
	}
	done.Wait()
}

func cpuMicros() int64 {
	var used syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return (used.Utime.Sec+used.Stime.Sec)*1_000_000 + used.Utime.Usec + used.Stime.Usec
}

func number(word string) int {
	n, err := strconv.Atoi(word)
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
