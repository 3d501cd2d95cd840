package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

const (
	guardTTL    = 2
	guardWrites = 4
)

// guard takes the lock "oracle/lock" again and again until its input ends, and while it has it writes its token to "oracle/data",
// if it is the owner still: a line "refused" tells each time that it was not. Whatever fails is begun anew.
func guard() error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	for {
		select {
		case <-over:
			return nil
		default:
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if err := guardedWrites(ctx, client); err != nil {
				time.Sleep(100 * time.Millisecond)
			}
			cancel()
		}
	}
}

func guardedWrites(ctx context.Context, client *clientv3.Client) error {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(guardTTL), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, "oracle/lock")
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	own, err := client.Get(ctx, mutex.Key())
	if err != nil || own.Count == 0 {
		return err
	}
	token := strconv.FormatInt(own.Kvs[0].CreateRevision, 10)
	for range guardWrites {
		done, err := client.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpPut("oracle/data", token)).Commit()
		if err != nil {
			return err
		}
		if !done.Succeeded {
			fmt.Println("refused")
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return mutex.Unlock(ctx)
}
