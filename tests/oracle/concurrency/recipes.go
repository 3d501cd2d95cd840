package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

// readAndWrite takes the lock for reading, under which nothing may change, and then for writing.
func readAndWrite(ctx context.Context, client *clientv3.Client, mutex *recipe.RWMutex) error {
	if err := mutex.RLock(); err != nil {
		return err
	}
	first, err := number(ctx, client, "contended/rwlock-counter")
	if err != nil {
		return err
	}
	second, err := number(ctx, client, "contended/rwlock-counter")
	if err != nil {
		return err
	}
	if first != second {
		return fmt.Errorf("a reader saw %d become %d", first, second)
	}
	if err := mutex.RUnlock(); err != nil {
		return err
	}
	return mutex.Lock()
}

// queue puts items into the queue "contended/queue" and takes as many, of whoever's, each of which it notes by a key of its own.
func queue(ctx context.Context, client *clientv3.Client, worker, rounds int) error {
	queue := recipe.NewQueue(client, "contended/queue")
	for round := range rounds {
		if err := queue.Enqueue(fmt.Sprintf("go-%d-%d", worker, round)); err != nil {
			return err
		}
		item, err := queue.Dequeue()
		if err != nil {
			return err
		}
		if _, err := client.Put(ctx, "contended/taken/"+item, ""); err != nil {
			return err
		}
	}
	return nil
}

// barrier waits until somebody else holds a barrier, holds one itself, and releases it when it has passed the other.
func barrier(ctx context.Context, client *clientv3.Client) error {
	const others = "contended/barrier-rust"
	for {
		held, err := client.Get(ctx, others)
		if err != nil {
			return err
		}
		if len(held.Kvs) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	own := recipe.NewBarrier(client, "contended/barrier-go")
	if err := own.Hold(); err != nil {
		return err
	}
	if err := recipe.NewBarrier(client, others).Wait(); err != nil {
		return err
	}
	return own.Release()
}
