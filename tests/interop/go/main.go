// Interop drives a server with etcd's own Go client: go run . with ETCD_ENDPOINT set.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/namespace"
)

const (
	prefix   = "interop/go/"
	deadline = 20 * time.Second
)

type test struct {
	name string
	run  func(context.Context, *clientv3.Client) error
}

var tests = []test{
	{"a put is read back with its versions", putAndGet},
	{"a range is sorted, limited and counted", sortedRange},
	{"a transaction compares and branches", transaction},
	{"a compacted revision is refused", compaction},
	{"a watch tells every change in order", watchOrder},
	{"a watch reports progress when asked", watchProgress},
	{"a watch below the compaction is canceled", watchCompacted},
	{"a lease is kept alive and revoked", leaseKeepAlive},
	{"an expired lease takes its key along", leaseExpiry},
	{"software transactional memory retries to the right sum", softwareTransactions},
	{"a mutex excludes the other session", mutex},
	{"an election passes from one leader to the next", election},
	{"a namespace hides its prefix", namespaced},
	{"a snapshot is a database with a hash", snapshot},
	{"the member tells its status", status},
}

func main() {
	endpoint := os.Getenv("ETCD_ENDPOINT")
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(endpoint, ","),
		DialTimeout: deadline,
	})
	if err != nil {
		fmt.Println("no client:", err)
		os.Exit(1)
	}
	defer client.Close()
	failed := 0
	for _, t := range tests {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		_, err := client.Delete(ctx, prefix, clientv3.WithPrefix())
		if err == nil {
			err = t.run(ctx, client)
		}
		cancel()
		if err != nil {
			failed++
			fmt.Printf("FAILED %s: %v\n", t.name, err)
		} else {
			fmt.Printf("ok     %s\n", t.name)
		}
	}
	fmt.Printf("%d passed, %d failed\n", len(tests)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

func want(got, expected any) error {
	if fmt.Sprint(got) != fmt.Sprint(expected) {
		return fmt.Errorf("got %v, want %v", got, expected)
	}
	return nil
}

func putAndGet(ctx context.Context, c *clientv3.Client) error {
	for _, value := range []string{"1", "2"} {
		if _, err := c.Put(ctx, prefix+"a", value); err != nil {
			return err
		}
	}
	got, err := c.Get(ctx, prefix+"a")
	if err != nil {
		return err
	}
	if len(got.Kvs) != 1 {
		return fmt.Errorf("%d keys", len(got.Kvs))
	}
	kv := got.Kvs[0]
	if kv.ModRevision != got.Header.Revision || kv.CreateRevision != kv.ModRevision-1 {
		return fmt.Errorf("revisions: %v", kv)
	}
	return want(fmt.Sprintf("%s %d", kv.Value, kv.Version), "2 2")
}

func sortedRange(ctx context.Context, c *clientv3.Client) error {
	for i := range 5 {
		if _, err := c.Put(ctx, fmt.Sprint(prefix, i), fmt.Sprint(9-i)); err != nil {
			return err
		}
	}
	got, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(2),
		clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend))
	if err != nil {
		return err
	}
	keys := ""
	for _, kv := range got.Kvs {
		keys += strings.TrimPrefix(string(kv.Key), prefix)
	}
	return want(fmt.Sprintf("%s %v %d", keys, got.More, got.Count), "43 true 5")
}

func transaction(ctx context.Context, c *clientv3.Client) error {
	create := func() (*clientv3.TxnResponse, error) {
		return c.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(prefix+"t"), "=", 0)).
			Then(clientv3.OpPut(prefix+"t", "new")).
			Else(clientv3.OpGet(prefix + "t")).
			Commit()
	}
	first, err := create()
	if err != nil {
		return err
	}
	second, err := create()
	if err != nil {
		return err
	}
	value := second.Responses[0].GetResponseRange().Kvs[0].Value
	return want(fmt.Sprintf("%v %v %s", first.Succeeded, second.Succeeded, value), "true false new")
}

func compaction(ctx context.Context, c *clientv3.Client) error {
	old, err := c.Put(ctx, prefix+"a", "1")
	if err != nil {
		return err
	}
	last, err := c.Put(ctx, prefix+"a", "2")
	if err != nil {
		return err
	}
	if _, err = c.Compact(ctx, last.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	_, err = c.Get(ctx, prefix+"a", clientv3.WithRev(old.Header.Revision))
	if !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("got %v", err)
	}
	return nil
}

func watchOrder(ctx context.Context, c *clientv3.Client) error {
	first, err := c.Put(ctx, prefix+"w", "0")
	if err != nil {
		return err
	}
	events := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithRev(first.Header.Revision))
	for i := 1; i < 20; i++ {
		if _, err := c.Put(ctx, prefix+"w", fmt.Sprint(i)); err != nil {
			return err
		}
	}
	if _, err := c.Delete(ctx, prefix+"w"); err != nil {
		return err
	}
	seen := 0
	for response := range events {
		if err := response.Err(); err != nil {
			return err
		}
		for _, event := range response.Events {
			if event.Type == clientv3.EventTypeDelete {
				return want(fmt.Sprintf("%d %s", seen, event.PrevKv.Value), "20 19")
			}
			if err := want(string(event.Kv.Value), seen); err != nil {
				return err
			}
			seen++
		}
	}
	return errors.New("the watch ended")
}

func watchProgress(ctx context.Context, c *clientv3.Client) error {
	ctx = clientv3.WithRequireLeader(ctx)
	events := c.Watch(ctx, prefix+"p", clientv3.WithCreatedNotify())
	if created := <-events; !created.Created {
		return fmt.Errorf("not created: %v", created)
	}
	put, err := c.Put(ctx, prefix+"elsewhere", "1")
	if err != nil {
		return err
	}
	ask := time.NewTicker(100 * time.Millisecond)
	defer ask.Stop()
	for {
		select {
		case response := <-events:
			if response.IsProgressNotify() && response.Header.Revision >= put.Header.Revision {
				return nil
			}
			if err := response.Err(); err != nil {
				return err
			}
		case <-ask.C:
			if err := c.RequestProgress(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func watchCompacted(ctx context.Context, c *clientv3.Client) error {
	old, err := c.Put(ctx, prefix+"a", "1")
	if err != nil {
		return err
	}
	last, err := c.Put(ctx, prefix+"a", "2")
	if err != nil {
		return err
	}
	if _, err = c.Compact(ctx, last.Header.Revision); err != nil {
		return err
	}
	response := <-c.Watch(ctx, prefix+"a", clientv3.WithRev(old.Header.Revision))
	if err := want(response.CompactRevision, last.Header.Revision); err != nil {
		return err
	}
	return want(response.Err(), rpctypes.ErrCompacted)
}

func leaseKeepAlive(ctx context.Context, c *clientv3.Client) error {
	lease, err := c.Grant(ctx, 3)
	if err != nil {
		return err
	}
	if _, err := c.Put(ctx, prefix+"l", "1", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	alive, err := c.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	for range 3 {
		if response := <-alive; response == nil || response.TTL != 3 {
			return fmt.Errorf("kept alive with %v", response)
		}
	}
	left, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	if err := want(fmt.Sprintf("%s %d", left.Keys, left.GrantedTTL), "["+prefix+"l] 3"); err != nil {
		return err
	}
	if _, err := c.Revoke(ctx, lease.ID); err != nil {
		return err
	}
	got, err := c.Get(ctx, prefix+"l")
	if err != nil {
		return err
	}
	return want(got.Count, 0)
}

func leaseExpiry(ctx context.Context, c *clientv3.Client) error {
	lease, err := c.Grant(ctx, 1)
	if err != nil {
		return err
	}
	put, err := c.Put(ctx, prefix+"l", "1", clientv3.WithLease(lease.ID))
	if err != nil {
		return err
	}
	response := <-c.Watch(ctx, prefix+"l", clientv3.WithRev(put.Header.Revision+1))
	if len(response.Events) != 1 || response.Events[0].Type != clientv3.EventTypeDelete {
		return fmt.Errorf("got %v", response)
	}
	return nil
}

func softwareTransactions(ctx context.Context, c *clientv3.Client) error {
	const writers, rounds = 4, 10
	add := func(stm concurrency.STM) error {
		var n int
		fmt.Sscan(stm.Get(prefix+"sum"), &n)
		stm.Put(prefix+"sum", fmt.Sprint(n+1))
		return nil
	}
	done := make(chan error, writers)
	for range writers {
		go func() {
			for range rounds {
				_, err := concurrency.NewSTM(c, add, concurrency.WithAbortContext(ctx))
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			return err
		}
	}
	got, err := c.Get(ctx, prefix+"sum")
	if err != nil {
		return err
	}
	return want(string(got.Kvs[0].Value), writers*rounds)
}

func sessions(c *clientv3.Client) (a, b *concurrency.Session, err error) {
	if a, err = concurrency.NewSession(c, concurrency.WithTTL(10)); err != nil {
		return
	}
	b, err = concurrency.NewSession(c, concurrency.WithTTL(10))
	return
}

func mutex(ctx context.Context, c *clientv3.Client) error {
	a, b, err := sessions(c)
	if err != nil {
		return err
	}
	defer b.Close()
	first := concurrency.NewMutex(a, prefix+"mutex")
	second := concurrency.NewMutex(b, prefix+"mutex")
	if err := first.Lock(ctx); err != nil {
		return err
	}
	if err := second.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		return fmt.Errorf("the second got %v", err)
	}
	locked := make(chan error, 1)
	go func() { locked <- second.Lock(ctx) }()
	// The end of a session is the end of what it holds.
	if err := a.Close(); err != nil {
		return err
	}
	if err := <-locked; err != nil {
		return err
	}
	return second.Unlock(ctx)
}

func election(ctx context.Context, c *clientv3.Client) error {
	a, b, err := sessions(c)
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	first := concurrency.NewElection(a, prefix+"election")
	second := concurrency.NewElection(b, prefix+"election")
	if err := first.Campaign(ctx, "first"); err != nil {
		return err
	}
	seen := second.Observe(ctx)
	if err := want(string((<-seen).Kvs[0].Value), "first"); err != nil {
		return err
	}
	won := make(chan error, 1)
	go func() { won <- second.Campaign(ctx, "second") }()
	if err := first.Proclaim(ctx, "still first"); err != nil {
		return err
	}
	if err := want(string((<-seen).Kvs[0].Value), "still first"); err != nil {
		return err
	}
	if err := first.Resign(ctx); err != nil {
		return err
	}
	if err := <-won; err != nil {
		return err
	}
	leader, err := second.Leader(ctx)
	if err != nil {
		return err
	}
	return want(string(leader.Kvs[0].Value), "second")
}

func namespaced(ctx context.Context, c *clientv3.Client) error {
	kv := namespace.NewKV(c.KV, prefix+"inside/")
	if _, err := kv.Put(ctx, "a", "1"); err != nil {
		return err
	}
	inside, err := kv.Get(ctx, "", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	outside, err := c.Get(ctx, prefix+"inside/a")
	if err != nil {
		return err
	}
	return want(fmt.Sprintf("%s %d", inside.Kvs[0].Key, outside.Count), "a 1")
}

func snapshot(ctx context.Context, c *clientv3.Client) error {
	response, err := c.SnapshotWithVersion(ctx)
	if err != nil {
		return err
	}
	defer response.Snapshot.Close()
	bytes, err := io.ReadAll(response.Snapshot)
	if err != nil {
		return err
	}
	// Whole pages, and the 32 bytes of their hash.
	return want(len(bytes) > 4096 && len(bytes)%512 == 32, true)
}

func status(ctx context.Context, c *clientv3.Client) error {
	got, err := c.Status(ctx, c.Endpoints()[0])
	if err != nil {
		return err
	}
	members, err := c.MemberList(ctx)
	if err != nil {
		return err
	}
	if len(got.Errors) > 0 || got.Leader == 0 || len(members.Members) == 0 {
		return fmt.Errorf("%v", got)
	}
	return nil
}
