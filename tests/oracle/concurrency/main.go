// Concurrency runs etcd's own Go client and its concurrency package against a member: locks that
// exclude, an election, STM transfers, and watches and sessions that outlive a restart of the server.
// It starts the server itself, because it restarts it:
//
//	concurrency -- ./keystead serve --data-dir DIR --listen-client-urls URL ...
//
// It prints a line for each check and exits with 1 at the first that fails. With -contend it takes part in what others do
// at the same time, on a server that runs:
//
//	concurrency -endpoint URL -contend lock -workers 3 -rounds 20
//
// and with -register it registers an endpoint of a service, beside another client's, and looks for both.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

const limit = 180 * time.Second

var (
	endpoint  = flag.String("endpoint", "http://127.0.0.1:2379", "the member's client URL")
	contended = flag.String("contend", "", "what to contend for: lock, election, rwlock, queue or barrier")
	service   = flag.String("register", "", "the service to register an endpoint of")
	workers   = flag.Int("workers", 3, "how many contend at once")
	guarded   = flag.Bool("guard", false, "write under a lock until the input ends")
	rounds    = flag.Int("rounds", 20, "how often each of them")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if *contended != "" {
		if err := contend(*contended, *workers, *rounds); err != nil {
			log.Fatalf("FAIL %v", err)
		}
		return
	}
	if *service != "" {
		if err := name(*service); err != nil {
			log.Fatalf("FAIL %v", err)
		}
		return
	}
	if *guarded {
		if err := guard(); err != nil {
			log.Fatalf("FAIL %v", err)
		}
		return
	}
	if flag.NArg() == 0 {
		log.Fatal("concurrency: name the server's command after --")
	}
	server := &member{command: flag.Args()}
	err := run(server)
	server.stop(syscall.SIGKILL)
	if err != nil {
		log.Fatalf("FAIL %v", err)
	}
}

func run(server *member) error {
	if err := server.start(); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{*endpoint}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// The first call waits until the server is up.
	if _, err := client.Get(ctx, "ready"); err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	checks := []struct {
		name string
		run  func(context.Context, *clientv3.Client, *member) error
	}{
		{"locks exclude each other", locksExclude},
		{"a try-lock says that the lock is taken", tryLock},
		{"a lock ends with its session", lockEndsWithSession},
		{"an election changes hands in order", election},
		{"STM transfers keep the sum", stm},
		{"a watch goes on over a restart without loss", watchOverRestart},
		{"a session and its lock outlive a restart", sessionOverRestart},
		{"a compacted watch says so", compactedWatch},
	}
	for _, check := range checks {
		if err := check.run(ctx, client, server); err != nil {
			return fmt.Errorf("%s: %w", check.name, err)
		}
		fmt.Println("ok  ", check.name)
	}
	return nil
}

type member struct {
	command []string
	process *exec.Cmd
}

func (s *member) start() error {
	s.process = exec.Command(s.command[0], s.command[1:]...)
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.process.Stderr = os.Stderr
	return s.process.Start()
}

func (s *member) stop(signal syscall.Signal) {
	if s.process != nil {
		_ = s.process.Process.Signal(signal)
		_ = s.process.Wait()
	}
}

func (s *member) restart(signal syscall.Signal) error {
	s.stop(signal)
	return s.start()
}

// locksExclude lets eight sessions add to a counter by read and blind write, each under the lock.
func locksExclude(ctx context.Context, client *clientv3.Client, _ *member) error {
	const workers, rounds = 8, 10
	work := func() error {
		session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer session.Close()
		mutex := concurrency.NewMutex(session, "/locks/counter")
		for range rounds {
			if err := mutex.Lock(ctx); err != nil {
				return err
			}
			value, err := number(ctx, client, "counter")
			if err != nil {
				return err
			}
			if _, err := client.Put(ctx, "counter", strconv.Itoa(value+1)); err != nil {
				return err
			}
			if err := mutex.Unlock(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	if err := all(workers, work); err != nil {
		return err
	}
	value, err := number(ctx, client, "counter")
	if err == nil && value != workers*rounds {
		err = fmt.Errorf("counted %d of %d", value, workers*rounds)
	}
	return err
}

func tryLock(ctx context.Context, client *clientv3.Client, _ *member) error {
	first, err := concurrency.NewSession(client)
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := concurrency.NewSession(client)
	if err != nil {
		return err
	}
	defer second.Close()
	held := concurrency.NewMutex(first, "/locks/try")
	wanted := concurrency.NewMutex(second, "/locks/try")
	if err := held.TryLock(ctx); err != nil {
		return err
	}
	if err := wanted.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		return fmt.Errorf("expected ErrLocked, got %v", err)
	}
	if err := held.Unlock(ctx); err != nil {
		return err
	}
	return wanted.TryLock(ctx)
}

func lockEndsWithSession(ctx context.Context, client *clientv3.Client, _ *member) error {
	holder, err := concurrency.NewSession(client, concurrency.WithTTL(5))
	if err != nil {
		return err
	}
	if err := concurrency.NewMutex(holder, "/locks/session").Lock(ctx); err != nil {
		return err
	}
	waiter, err := concurrency.NewSession(client, concurrency.WithTTL(5))
	if err != nil {
		return err
	}
	defer waiter.Close()
	// The holder goes silent: its lease must run out and hand the lock over.
	holder.Orphan()
	begin := time.Now()
	if err := concurrency.NewMutex(waiter, "/locks/session").Lock(ctx); err != nil {
		return err
	}
	if waited := time.Since(begin); waited < 2*time.Second {
		return fmt.Errorf("the lock was handed over after %v, before the lease could have ended", waited)
	}
	return nil
}

func election(ctx context.Context, client *clientv3.Client, _ *member) error {
	const candidates = 4
	var order []string
	var guard sync.Mutex
	index := 0
	campaign := func() error {
		session, err := concurrency.NewSession(client)
		if err != nil {
			return err
		}
		defer session.Close()
		guard.Lock()
		name := fmt.Sprintf("candidate-%d", index)
		index++
		guard.Unlock()
		election := concurrency.NewElection(session, "/election")
		if err := election.Campaign(ctx, name); err != nil {
			return err
		}
		leader, err := election.Leader(ctx)
		if err != nil {
			return err
		}
		if got := string(leader.Kvs[0].Value); got != name {
			return fmt.Errorf("%s leads, but %s is told", name, got)
		}
		if err := election.Proclaim(ctx, name+" speaks"); err != nil {
			return err
		}
		guard.Lock()
		order = append(order, name)
		guard.Unlock()
		return election.Resign(ctx)
	}
	if err := all(candidates, campaign); err != nil {
		return err
	}
	if len(order) != candidates {
		return fmt.Errorf("only %v led", order)
	}
	return nil
}

func stm(ctx context.Context, client *clientv3.Client, _ *member) error {
	const accounts, workers, transfers, start = 5, 6, 15, 100
	account := func(n int) string { return fmt.Sprintf("account/%d", n) }
	for n := range accounts {
		if _, err := client.Put(ctx, account(n), strconv.Itoa(start)); err != nil {
			return err
		}
	}
	work := func() error {
		for transfer := range transfers {
			from, to := account(transfer%accounts), account((transfer*3+1)%accounts)
			if from == to {
				continue
			}
			_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
				source, _ := strconv.Atoi(stm.Get(from))
				sink, _ := strconv.Atoi(stm.Get(to))
				stm.Put(from, strconv.Itoa(source-1))
				stm.Put(to, strconv.Itoa(sink+1))
				return nil
			}, concurrency.WithAbortContext(ctx))
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := all(workers, work); err != nil {
		return err
	}
	sum := 0
	for n := range accounts {
		value, err := number(ctx, client, account(n))
		if err != nil {
			return err
		}
		sum += value
	}
	if sum != accounts*start {
		return fmt.Errorf("%d became %d", accounts*start, sum)
	}
	return nil
}

// watchOverRestart writes before and after a stop and a kill; the client's watch must resume by itself.
func watchOverRestart(ctx context.Context, client *clientv3.Client, server *member) error {
	const each = 20
	events := client.Watch(clientv3.WithRequireLeader(ctx), "watched/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if first := <-events; first.Err() != nil {
		return first.Err()
	}
	written := 0
	put := func() error {
		for range each {
			if err := retry(ctx, func() error {
				_, err := client.Put(ctx, fmt.Sprintf("watched/%03d", written), "v")
				return err
			}); err != nil {
				return err
			}
			written++
		}
		return nil
	}
	if err := put(); err != nil {
		return err
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := server.restart(signal); err != nil {
			return err
		}
		if err := put(); err != nil {
			return err
		}
	}
	seen, last := map[string]bool{}, int64(0)
	for len(seen) < written {
		select {
		case answer, open := <-events:
			if !open || answer.Err() != nil {
				return fmt.Errorf("after %d of %d: %v", len(seen), written, answer.Err())
			}
			for _, event := range answer.Events {
				if event.Kv.ModRevision <= last {
					return fmt.Errorf("revision %d after %d", event.Kv.ModRevision, last)
				}
				last = event.Kv.ModRevision
				seen[string(event.Kv.Key)] = true
			}
		case <-ctx.Done():
			return fmt.Errorf("%d of %d seen: %w", len(seen), written, ctx.Err())
		}
	}
	return nil
}

func sessionOverRestart(ctx context.Context, client *clientv3.Client, server *member) error {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	if err != nil {
		return err
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, "/locks/restart")
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	if err := server.restart(syscall.SIGKILL); err != nil {
		return err
	}
	if err := retry(ctx, func() error { _, err := client.Get(ctx, "ready"); return err }); err != nil {
		return err
	}
	select {
	case <-session.Done():
		return errors.New("the session ended")
	case <-time.After(6 * time.Second):
	}
	owned, err := client.Txn(ctx).If(mutex.IsOwner()).Commit()
	if err != nil {
		return err
	}
	if !owned.Succeeded {
		return errors.New("the lock is no longer ours")
	}
	return mutex.Unlock(ctx)
}

func compactedWatch(ctx context.Context, client *clientv3.Client, _ *member) error {
	answer, err := client.Put(ctx, "compacted", "v")
	if err != nil {
		return err
	}
	revision := answer.Header.Revision
	if _, err := client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	for refused := range client.Watch(ctx, "compacted", clientv3.WithRev(1)) {
		if refused.Err() == nil || refused.CompactRevision != revision {
			return fmt.Errorf("expected a cancel at %d, got %v at %d", revision, refused.Err(), refused.CompactRevision)
		}
		return nil
	}
	return errors.New("the watch ended without a word")
}

// retry is for calls whose outcome may be unknown and that may be made twice.
func retry(ctx context.Context, call func() error) error {
	for {
		err := call()
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func number(ctx context.Context, client *clientv3.Client, key string) (int, error) {
	answer, err := client.Get(ctx, key)
	if err != nil || len(answer.Kvs) == 0 {
		return 0, err
	}
	return strconv.Atoi(string(answer.Kvs[0].Value))
}

// all runs work in count goroutines and gives the first error.
func all(count int, work func() error) error {
	failures := make(chan error, count)
	for range count {
		go func() { failures <- work() }()
	}
	var first error
	for range count {
		if err := <-failures; first == nil {
			first = err
		}
	}
	return first
}
