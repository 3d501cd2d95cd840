package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
	"go.uber.org/zap"
)

// contend adds to a counter by read and blind write, so many times, each time while holding the lock "contended/lock" or
// "contended/rwlock", or leading the election "contended/election"; clients of other languages do the same at the same time. Of a queue
// it takes items, at a barrier it waits.
func contend(thing string, workers, rounds int) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch thing {
	case "barrier":
		return barrier(ctx, client)
	case "queue":
		var worker atomic.Int32
		return all(workers, func() error { return queue(ctx, client, int(worker.Add(1)), rounds) })
	}
	return all(workers, func() error {
		session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer session.Close()
		take, leave, err := holder(session, thing)
		if err != nil {
			return err
		}
		for range rounds {
			if err := take(ctx); err != nil {
				return err
			}
			if err := increment(ctx, client, "contended/"+thing+"-counter"); err != nil {
				return err
			}
			if err := leave(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

type step func(context.Context) error

func holder(session *concurrency.Session, thing string) (take, leave step, err error) {
	switch thing {
	case "lock":
		mutex := concurrency.NewMutex(session, "contended/lock")
		return mutex.Lock, mutex.Unlock, nil
	case "election":
		election := concurrency.NewElection(session, "contended/election")
		campaign := func(ctx context.Context) error { return election.Campaign(ctx, "go") }
		return campaign, election.Resign, nil
	case "rwlock":
		mutex := recipe.NewRWMutex(session, "contended/rwlock")
		take := func(ctx context.Context) error { return readAndWrite(ctx, session.Client(), mutex) }
		return take, func(context.Context) error { return mutex.Unlock() }, nil
	}
	return nil, nil, fmt.Errorf("%q is nothing to contend for", thing)
}

func increment(ctx context.Context, client *clientv3.Client, key string) error {
	value, err := number(ctx, client, key)
	if err != nil {
		return err
	}
	_, err = client.Put(ctx, key, strconv.Itoa(value+1))
	return err
}
