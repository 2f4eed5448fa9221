package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

const (
	keys    = 30
	leases  = 8
	opsMax  = 128
	largest = 2 << 20
)

// Invents calls, and knows as much of the stores as makes them interesting.
type generator struct {
	*rand.Rand
	revision, compacted int64
}

func sum(bytes []byte) []byte {
	s := sha256.Sum256(bytes)
	return s[:8]
}

// Remembers the revision of an answer.
func (g *generator) learn(o outcome) {
	if at := strings.LastIndex(o.said, "@"); at >= 0 {
		var revision int64
		if _, err := fmt.Sscanf(o.said[at:], "@%d", &revision); err == nil {
			g.revision = max(g.revision, revision)
		}
	}
}

func (g *generator) call() call {
	switch n := g.IntN(100); {
	case n < 25:
		return unary("Put", g.put(), pb.NewKVClient, pb.KVClient.Put)
	case n < 45:
		return unary("Range", g.rangeOf(), pb.NewKVClient, pb.KVClient.Range)
	case n < 50:
		return unary("DeleteRange", g.deleteRange(), pb.NewKVClient, pb.KVClient.DeleteRange)
	case n < 60:
		return unary("Txn", g.txn(2), pb.NewKVClient, pb.KVClient.Txn)
	case n < 62:
		return unary("Compact", g.compaction(), pb.NewKVClient, pb.KVClient.Compact)
	case n < 74:
		return g.lease()
	case n < 82:
		create := g.watched()
		return watch(create, create.StartRevision > g.compacted && g.IntN(2) == 0)
	case n < 86:
		request := g.rangeOf()
		request.SortTarget = pb.RangeRequest_KEY // In other orders etcd sorts each piece, and loses rows.
		return rangeStream(request)
	case n < 91:
		return g.garbage()
	case n < 94:
		return waiting(g.key(), g.IntN(2) == 0)
	default:
		return g.member()
	}
}

// A call of one message and one answer.
func unary[Q, A proto.Message, C any](
	name string, request Q, client func(grpc.ClientConnInterface) C,
	do func(C, context.Context, Q, ...grpc.CallOption) (A, error),
) call {
	return call{name: fmt.Sprintf("%s %.300s", name, shown(request)), make: func(
		ctx context.Context, c *grpc.ClientConn, options []grpc.CallOption,
	) (string, error) {
		answer, err := do(client(c), ctx, request, options...)
		if err != nil {
			return "", err
		}
		if found, ok := any(answer).(*pb.RangeResponse); ok {
			arbitrary(any(request).(*pb.RangeRequest), found)
		}
		said := text(answer)
		if h, ok := any(answer).(interface{ GetHeader() *pb.ResponseHeader }); ok {
			said += fmt.Sprintf(" @%d", h.GetHeader().GetRevision())
		}
		return said, nil
	}}
}

func shown(m proto.Message) string {
	return fmt.Sprintf("(%d bytes) %v", proto.Size(m), m)
}

// Which of equal rows come first, in an order of other things than keys, is nobody's business.
func arbitrary(asked *pb.RangeRequest, found *pb.RangeResponse) {
	if asked.SortTarget == pb.RangeRequest_KEY || asked.SortOrder == pb.RangeRequest_NONE {
		return
	}
	total := []byte{}
	for _, kv := range found.Kvs {
		one, _ := proto.Marshal(kv)
		for i, b := range sum(one) {
			if len(total) <= i {
				total = append(total, 0)
			}
			total[i] += b
		}
	}
	if asked.Limit > 0 {
		total = fmt.Append(nil, len(found.Kvs))
	}
	found.Kvs = []*mvccpb.KeyValue{{Value: total}}
}

func (g *generator) key() []byte {
	if g.IntN(40) == 0 {
		return nil
	}
	return fmt.Appendf(nil, "k%02d", g.IntN(keys))
}

func (g *generator) end() []byte {
	switch g.IntN(6) {
	case 0:
		return []byte{0}
	case 1, 2:
		return fmt.Appendf(nil, "k%02d", g.IntN(keys))
	default:
		return nil
	}
}

func (g *generator) value() []byte {
	sizes := []int{0, 1, 10, 1000, 16_000, 100_000}
	size := sizes[g.IntN(len(sizes))]
	if g.IntN(25) == 0 {
		huge := []int{1_400_000, 1_573_000, largest - 40, largest + g.IntN(60) - 30, 3_000_000}
		size = huge[g.IntN(len(huge))]
	}
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(g.Uint32() >> 28)
	}
	return value
}

func (g *generator) leaseID() int64 {
	if g.IntN(2) == 0 {
		return 0
	}
	return int64(g.IntN(leases) + 1)
}

// A revision that is there, or gone, or yet to come.
func (g *generator) at() int64 {
	switch g.IntN(8) {
	case 0:
		return g.revision + int64(g.IntN(3))
	case 1:
		return g.compacted + int64(g.IntN(3)) - 1
	case 2:
		return max(g.revision-int64(g.IntN(20)), 0)
	case 3:
		return -int64(g.IntN(2))
	default:
		return 0
	}
}

func (g *generator) put() *pb.PutRequest {
	p := &pb.PutRequest{Key: g.key(), Value: g.value(), Lease: g.leaseID(), PrevKv: g.IntN(4) == 0}
	switch g.IntN(12) {
	case 0:
		p.IgnoreValue = true
		if g.IntN(2) == 0 {
			p.Value = nil
		}
	case 1:
		p.IgnoreLease = true
		if g.IntN(2) == 0 {
			p.Lease = 0
		}
	}
	return p
}

func (g *generator) rangeOf() *pb.RangeRequest {
	r := &pb.RangeRequest{Key: g.key(), RangeEnd: g.end(), Revision: g.at()}
	if g.IntN(3) == 0 {
		r.Limit = int64(g.IntN(12) - 1)
	}
	if g.IntN(3) == 0 {
		r.SortOrder, r.SortTarget = pb.RangeRequest_SortOrder(g.IntN(3)), pb.RangeRequest_SortTarget(g.IntN(5))
	}
	r.KeysOnly, r.CountOnly, r.Serializable = g.IntN(5) == 0, g.IntN(8) == 0, g.IntN(3) == 0
	if g.IntN(6) == 0 {
		r.MinModRevision, r.MaxModRevision = g.at(), g.at()
		r.MinCreateRevision, r.MaxCreateRevision = g.at(), g.at()
	}
	return r
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: g.key(), RangeEnd: g.end(), PrevKv: g.IntN(2) == 0}
}

func (g *generator) compaction() *pb.CompactionRequest {
	at := g.at()
	if at <= g.revision {
		g.compacted = max(g.compacted, at)
	}
	return &pb.CompactionRequest{Revision: at, Physical: g.IntN(2) == 0}
}

func (g *generator) ops(depth int) []*pb.RequestOp {
	n := g.IntN(5)
	if g.IntN(30) == 0 {
		n = opsMax + g.IntN(3) - 1
	}
	ops := make([]*pb.RequestOp, n)
	for i := range ops {
		op := &pb.RequestOp{}
		switch k := g.IntN(10); {
		case k < 5:
			put := g.put()
			put.Value = put.Value[:min(len(put.Value), 100)]
			op.Request = &pb.RequestOp_RequestPut{RequestPut: put}
		case k < 7:
			r := g.rangeOf()
			r.SortTarget = pb.RangeRequest_KEY
			op.Request = &pb.RequestOp_RequestRange{RequestRange: r}
		case k < 8:
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}
		case k < 9 && depth > 0:
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth - 1)}
		case k < 9:
			op.Request = &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: g.key()}}
		}
		ops[i] = op
	}
	return ops
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	txn := &pb.TxnRequest{Success: g.ops(depth), Failure: g.ops(depth)}
	for range g.IntN(3) {
		c := &pb.Compare{Key: g.key(), Result: pb.Compare_CompareResult(g.IntN(4)), RangeEnd: g.end()}
		switch c.Target = pb.Compare_CompareTarget(g.IntN(5)); c.Target {
		case pb.Compare_VERSION:
			c.TargetUnion = &pb.Compare_Version{Version: int64(g.IntN(4))}
		case pb.Compare_CREATE:
			c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.at()}
		case pb.Compare_MOD:
			c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.at()}
		case pb.Compare_VALUE:
			c.TargetUnion = &pb.Compare_Value{Value: g.value()}
		case pb.Compare_LEASE:
			c.TargetUnion = &pb.Compare_Lease{Lease: g.leaseID()}
		}
		txn.Compare = append(txn.Compare, c)
	}
	return txn
}

// Leases outlast the run, so that nobody's clock decides anything.
func (g *generator) lease() call {
	id := g.leaseID()
	switch g.IntN(6) {
	case 0, 1:
		ttl := []int64{100_000, 100_000, 100_000, 9_000_000_000, 9_000_000_001}[g.IntN(5)]
		grant := &pb.LeaseGrantRequest{ID: id + 1 - min(id, 1), TTL: ttl}
		return unary("LeaseGrant", grant, pb.NewLeaseClient, pb.LeaseClient.LeaseGrant)
	case 2:
		return unary("LeaseRevoke", &pb.LeaseRevokeRequest{ID: id}, pb.NewLeaseClient, pb.LeaseClient.LeaseRevoke)
	case 3:
		return unary("LeaseLeases", &pb.LeaseLeasesRequest{}, pb.NewLeaseClient, sortedLeases)
	case 4:
		request := &pb.LeaseTimeToLiveRequest{ID: id, Keys: g.IntN(2) == 0}
		return unary("LeaseTimeToLive", request, pb.NewLeaseClient, timeToLive)
	default:
		return keepAlive([]int64{id, g.leaseID(), 4711})
	}
}

func sortedLeases(c pb.LeaseClient, ctx context.Context, q *pb.LeaseLeasesRequest, o ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
	answer, err := c.LeaseLeases(ctx, q, o...)
	for i := range answer.GetLeases() {
		for j := range i {
			if a := answer.Leases; a[j].ID > a[i].ID {
				a[i], a[j] = a[j], a[i]
			}
		}
	}
	return answer, err
}

func timeToLive(c pb.LeaseClient, ctx context.Context, q *pb.LeaseTimeToLiveRequest, o ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	answer, err := c.LeaseTimeToLive(ctx, q, o...)
	if answer.GetTTL() > 0 {
		answer.TTL = 1 // A second may have passed here and not there.
	}
	all := answer.GetKeys()
	for i := range all {
		for j := range i {
			if string(all[j]) > string(all[i]) {
				all[i], all[j] = all[j], all[i]
			}
		}
	}
	return answer, err
}

func (g *generator) metadata() metadata.MD {
	md := metadata.MD{}
	if g.IntN(4) == 0 {
		md.Set("hasleader", "true")
	}
	if g.IntN(4) == 0 {
		md.Append("x-anything", "1", strings.Repeat("y", g.IntN(3000)))
	}
	if g.IntN(4) == 0 {
		md.Set("x-bytes-bin", string(g.value()[:0])+string(rune(g.IntN(300))))
	}
	if g.IntN(8) == 0 {
		md.Set("client-api-version", []string{"3.7.1", "", "x"}[g.IntN(3)])
	}
	return md
}

// A pause in which a call that waits is sure to wait.
const shortly = 50 * time.Millisecond

// End of a stream that ended well.
func over(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
