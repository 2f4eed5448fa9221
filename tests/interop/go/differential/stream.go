package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func (g *generator) watched() *pb.WatchCreateRequest {
	w := &pb.WatchCreateRequest{Key: g.key(), RangeEnd: g.end(), StartRevision: g.at(), PrevKv: g.IntN(2) == 0,
		WatchId: int64(g.IntN(3)), Fragment: g.IntN(4) == 0}
	if w.StartRevision > g.revision {
		w.StartRevision = 0 // What will be is not waited for.
	}
	if g.IntN(5) == 0 {
		w.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_FilterType(g.IntN(2))}
	}
	return w
}

// A watch from a revision up to now, as one sequence of events: where answers are cut is nobody's business.
func watch(create *pb.WatchCreateRequest, twice bool) call {
	return call{name: "Watch " + shown(create), make: func(
		ctx context.Context, c *grpc.ClientConn, options []grpc.CallOption,
	) (string, error) {
		stream, err := pb.NewWatchClient(c).Watch(ctx, options...)
		if err != nil {
			return "", err
		}
		requests := []*pb.WatchRequest{{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}}
		if twice {
			requests = append(requests, requests[0])
		}
		var said strings.Builder
		for _, request := range requests {
			if err := stream.Send(request); err != nil {
				return "", err
			}
			if err := follow(stream, create, &said); err != nil {
				return said.String(), err
			}
		}
		return said.String(), nil // It would go on for ever; whoever called ends it.
	}}
}

// Reads a watch until it has told all up to now.
func follow(stream pb.Watch_WatchClient, create *pb.WatchCreateRequest, said *strings.Builder) error {
	created, err := stream.Recv()
	for err == nil && !created.Created {
		created, err = stream.Recv() // Progress that was asked for once more than needed.
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(said, text(created))
	if created.Canceled || create.StartRevision <= 0 {
		return nil
	}
	caughtUp, asked := make(chan struct{}), make(chan struct{})
	go func() {
		askForProgress(stream, caughtUp)
		close(asked)
	}()
	defer func() { close(caughtUp); <-asked }()
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if answer.Canceled {
			fmt.Fprintln(said, "canceled", answer.CancelReason, answer.CompactRevision)
			return nil
		}
		// Progress is told of a stream whose watches have all caught up.
		if len(answer.Events) == 0 {
			return nil
		}
		for _, event := range answer.Events {
			fmt.Fprintln(said, text(event))
		}
	}
}

// Asks a stream how far it is, again and again: who has not caught up yet may not be answered.
func askForProgress(stream pb.Watch_WatchClient, caughtUp <-chan struct{}) {
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	for stream.Send(request) == nil {
		select {
		case <-caughtUp:
			return
		case <-time.After(shortly):
		}
	}
}

// A range in pieces, put together again.
func rangeStream(request *pb.RangeRequest) call {
	return call{name: "RangeStream " + shown(request), make: func(
		ctx context.Context, c *grpc.ClientConn, options []grpc.CallOption,
	) (string, error) {
		stream, err := pb.NewKVClient(c).RangeStream(ctx, request, options...)
		if err != nil {
			return "", err
		}
		whole := &pb.RangeResponse{}
		for {
			part, err := stream.Recv()
			if err != nil {
				return text(whole), over(err)
			}
			proto.Merge(whole, part.RangeResponse)
		}
	}}
}

// A beat for each lease.
func keepAlive(ids []int64) call {
	return call{name: fmt.Sprint("LeaseKeepAlive ", ids), make: func(
		ctx context.Context, c *grpc.ClientConn, options []grpc.CallOption,
	) (string, error) {
		stream, err := pb.NewLeaseClient(c).LeaseKeepAlive(ctx, options...)
		if err != nil {
			return "", err
		}
		said := ""
		for _, id := range ids {
			if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
				return said, err
			}
			answer, err := stream.Recv()
			if err != nil {
				return said, err
			}
			said += text(answer)
		}
		if err := stream.CloseSend(); err != nil {
			return said, err
		}
		_, err = stream.Recv()
		return said, over(err)
	}}
}

// A call that waits for what never comes, until its deadline or until it is cancelled.
func waiting(name []byte, cancelled bool) call {
	// Whose clock was first shows in the text.
	return call{name: fmt.Sprintf("Observe %q, cancelled: %v", name, cancelled), anyText: true, make: func(
		ctx context.Context, c *grpc.ClientConn, options []grpc.CallOption,
	) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, shortly)
		defer cancel()
		observe := &grpc.StreamDesc{ServerStreams: true}
		stream, err := c.NewStream(ctx, observe, "/v3electionpb.Election/Observe", append(options, grpc.ForceCodec(raw{}))...)
		if err != nil {
			return "", err
		}
		election := append([]byte("nobody/"), name...)
		request := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), election)
		if err := stream.SendMsg(request); err != nil {
			return "", err
		}
		if err := stream.CloseSend(); err != nil {
			return "", err
		}
		if cancelled {
			cancel()
		}
		var answer []byte
		err = stream.RecvMsg(&answer)
		if !cancelled && status.Code(err) == codes.Canceled {
			err = status.Error(codes.DeadlineExceeded, "") // etcd says one or the other.
		}
		return "", err
	}}
}

// Bytes as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "proto" }

// Methods whose answers to garbage have nothing in them that differs from server to server.
var methods = []string{
	"/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/DeleteRange",
	"/etcdserverpb.KV/Compact", "/etcdserverpb.KV/Nothing", "/etcdserverpb.Lease/LeaseRevoke",
	"/v3lockpb.Lock/Unlock", "/v3electionpb.Election/Leader", "/etcdserverpb.Cluster/MemberRemove",
	"/etcdserverpb.Maintenance/MoveLeader", "/grpc.health.v1.Health/Check", "/a.B/C", "/ä/%", "/x", "/x/",
}

// Bytes that are no message, to a method that may be none. Only refusals are compared: what can be read
// of garbage is no matter of ours.
func (g *generator) garbage() call {
	method := methods[g.IntN(len(methods))]
	body := make([]byte, g.IntN(12))
	for i := range body {
		body[i] = byte(g.Uint32())
	}
	if g.IntN(3) == 0 {
		body = nil
	} else {
		// A length that leads beyond the end: every reader refuses it.
		body = append(protowire.AppendTag(nil, 1, protowire.BytesType), 100)
	}
	return call{name: fmt.Sprintf("%s %x", method, body), anyText: len(body) > 0, make: func(
		ctx context.Context, c *grpc.ClientConn, options []grpc.CallOption,
	) (string, error) {
		var answer []byte
		return "", c.Invoke(ctx, method, body, &answer, append(options, grpc.ForceCodec(raw{}))...)
	}}
}

// What a member tells of itself and the store.
func (g *generator) member() call {
	switch g.IntN(5) {
	case 0:
		return unary("HashKV", &pb.HashKVRequest{Revision: g.at()}, pb.NewMaintenanceClient, pb.MaintenanceClient.HashKV)
	case 1:
		alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_AlarmAction(g.IntN(1))}
		return unary("Alarm", alarm, pb.NewMaintenanceClient, pb.MaintenanceClient.Alarm)
	case 2:
		return unary("AuthStatus", &pb.AuthStatusRequest{}, pb.NewAuthClient, pb.AuthClient.AuthStatus)
	case 3:
		request := &pb.AuthenticateRequest{Name: "root", Password: "x"}
		return unary("Authenticate", request, pb.NewAuthClient, pb.AuthClient.Authenticate)
	default:
		request := &pb.MemberRemoveRequest{ID: 4711}
		return unary("MemberRemove", request, pb.NewClusterClient, pb.ClusterClient.MemberRemove)
	}
}
