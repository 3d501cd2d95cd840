package main

import (
	"context"
	"fmt"
	"net/url"
	"reflect"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.uber.org/zap"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

const (
	theirs = "10.0.0.1:80"
	ours   = "10.0.0.2:80"
)

// found is what a gRPC connection would be told by the resolver.
type found struct {
	addresses chan []string
}

func (f *found) UpdateState(state gresolver.State) error {
	var addresses []string
	for _, endpoint := range state.Endpoints {
		for _, address := range endpoint.Addresses {
			addresses = append(addresses, address.Addr)
		}
	}
	slices.Sort(addresses)
	f.addresses <- addresses
	return nil
}

func (f *found) ReportError(error)                                    {}
func (f *found) NewAddress([]gresolver.Address)                       {}
func (f *found) ParseServiceConfig(string) *serviceconfig.ParseResult { return nil }

func (f *found) wait(ctx context.Context, expected ...string) error {
	for {
		select {
		case addresses := <-f.addresses:
			if slices.Equal(addresses, expected) {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("waited for %v in vain", expected)
		}
	}
}

// name registers an endpoint of the service with a lease, waits until gRPC's resolver has found it and another client's, says so by
// the key "found-by-go", and ends when the resolver has seen the other one go.
func name(service string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	manager, err := endpoints.NewManager(client, service)
	if err != nil {
		return err
	}
	lease, err := client.Grant(ctx, 60)
	if err != nil {
		return err
	}
	metadata := map[string]any{"language": "go", "tags": []any{"<a>", "b&c"}}
	own := endpoints.Endpoint{Addr: ours, Metadata: metadata}
	if err := manager.AddEndpoint(ctx, service+"/"+ours, own, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	builder, err := resolver.NewBuilder(client)
	if err != nil {
		return err
	}
	connection := &found{addresses: make(chan []string, 16)}
	target := gresolver.Target{URL: url.URL{Scheme: "etcd", Path: "/" + service}}
	resolver, err := builder.Build(target, connection, gresolver.BuildOptions{})
	if err != nil {
		return err
	}
	defer resolver.Close()
	if err := connection.wait(ctx, theirs, ours); err != nil {
		return err
	}
	all, err := manager.List(ctx)
	if err != nil {
		return err
	}
	metadata["language"] = "rust"
	expected := endpoints.Endpoint{Addr: theirs, Metadata: metadata}
	if other := all[service+"/"+theirs]; !reflect.DeepEqual(other, expected) {
		return fmt.Errorf("found %v, not %v", other, expected)
	}
	if _, err := client.Put(ctx, "found-by-go", ""); err != nil {
		return err
	}
	if err := connection.wait(ctx, ours); err != nil {
		return err
	}
	_, err = client.Revoke(ctx, lease.ID)
	return err
}
