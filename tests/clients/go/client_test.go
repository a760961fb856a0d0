// Two tenants use a real gateway with what protoc generated, and nothing else of this project.
//
// tests/integration/test_go_client.py generates gen/ and sets the variables.
package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "llmspell.test/client/gen/llmspell/v1"
)

// connect gives a connection to the gateway.
func connect(t *testing.T) *grpc.ClientConn {
	t.Helper()
	address := os.Getenv("LLMSPELL_ADDRESS")
	if address == "" {
		t.Skip("LLMSPELL_ADDRESS is not set: run tests/integration/test_go_client.py")
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// as gives a context with a key, which ends after ten seconds.
func as(t *testing.T, key string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// reason gives the code of an error and the reason in its details.
func reason(t *testing.T, err error) (codes.Code, string, map[string]string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	told := status.Convert(err)
	for _, detail := range told.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return told.Code(), info.GetReason(), info.GetMetadata()
		}
	}
	t.Fatalf("no ErrorInfo in %v", err)
	return 0, "", nil
}

func vector(numbers ...float32) *pb.Vector {
	var packed bytes.Buffer
	_ = binary.Write(&packed, binary.LittleEndian, numbers)
	return &pb.Vector{F32: packed.Bytes()}
}

func TestStateIsEachTenantsOwn(t *testing.T) {
	state := pb.NewStateServiceClient(connect(t))
	for tenant, key := range keys() {
		request := &pb.SetStateRequest{
			Key:   "go/who",
			Value: &pb.Payload{Encoding: &pb.Payload_Text{Text: tenant}},
		}
		if _, err := state.SetState(as(t, key), request); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, key := range keys() {
		answer, err := state.GetState(as(t, key), &pb.GetStateRequest{Key: "go/who"})
		if err != nil {
			t.Fatal(err)
		}
		if text := answer.GetItem().GetValue().GetText(); text != tenant {
			t.Errorf("%s reads %q", tenant, text)
		}
	}
}

func TestSearchFindsOnlyOnesOwn(t *testing.T) {
	vectors := pb.NewVectorServiceClient(connect(t))
	for tenant, key := range keys() {
		ctx := as(t, key)
		made := &pb.CreateCollectionRequest{CollectionId: "go", Dimension: 3}
		if _, err := vectors.CreateCollection(ctx, made); err != nil {
			t.Fatal(err)
		}
		records := []*pb.VectorRecord{
			{RecordId: tenant + "-x", Vector: vector(1, 0, 0)},
			{RecordId: tenant + "-y", Vector: vector(0, 1, 0)},
		}
		put := &pb.UpsertVectorsRequest{CollectionId: "go", Records: records}
		if _, err := vectors.UpsertVectors(ctx, put); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, key := range keys() {
		request := &pb.SearchRequest{CollectionId: "go", Vector: vector(0.9, 0.1, 0)}
		answer, err := vectors.Search(as(t, key), request)
		if err != nil {
			t.Fatal(err)
		}
		hits := answer.GetHits()
		if len(hits) != 2 || hits[0].GetRecordId() != tenant+"-x" || hits[1].GetRecordId() != tenant+"-y" {
			t.Errorf("%s finds %v", tenant, hits)
		}
	}
}

func TestAScriptStreamsWhatItPrints(t *testing.T) {
	scripts := pb.NewScriptServiceClient(connect(t))
	source := `print("one") print("two") return {answer = 6 * 7}`
	stream, err := scripts.RunScript(as(t, keys()["acme"]), &pb.RunScriptRequest{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	printed, result := "", ""
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		printed += string(event.GetOutput().GetData())
		result += event.GetResult().GetJson()
	}
	if printed != "one\ntwo\n" || result != `{"answer":42}` {
		t.Errorf("printed %q, returned %q", printed, result)
	}
}

func TestErrorsHaveReasons(t *testing.T) {
	connection := connect(t)
	state := pb.NewStateServiceClient(connection)
	_, err := state.GetState(as(t, keys()["acme"]), &pb.GetStateRequest{Key: "go/absent"})
	if code, why, _ := reason(t, err); code != codes.NotFound || why != "ITEM_NOT_FOUND" {
		t.Errorf("an absent item: %v %s", code, why)
	}
	_, err = state.GetState(as(t, keys()["acme"]), &pb.GetStateRequest{})
	if code, why, more := reason(t, err); code != codes.InvalidArgument || more["field"] != "key" {
		t.Errorf("no key: %v %s %v", code, why, more)
	}
	_, err = state.GetState(as(t, "llms_nobody_"+"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), &pb.GetStateRequest{Key: "k"})
	if code, why, _ := reason(t, err); code != codes.Unauthenticated || why != "CREDENTIAL_INVALID" {
		t.Errorf("a key of nobody: %v %s", code, why)
	}
	other := metadata.AppendToOutgoingContext(as(t, keys()["acme"]), "llmspell-tenant", "globex")
	_, err = state.GetState(other, &pb.GetStateRequest{Key: "go/who"})
	if code, why, _ := reason(t, err); code != codes.PermissionDenied || why != "PERMISSION_DENIED" {
		t.Errorf("another tenant: %v %s", code, why)
	}
	scripts := pb.NewScriptServiceClient(connection)
	stream, err := scripts.RunScript(as(t, keys()["globex"]), &pb.RunScriptRequest{Source: "error('no')"})
	for err == nil {
		_, err = stream.Recv()
	}
	if code, why, _ := reason(t, err); why != "SCRIPT_FAILED" {
		t.Errorf("a script that fails: %v %s", code, why)
	}
}

func TestADeadlineIsKept(t *testing.T) {
	scripts := pb.NewScriptServiceClient(connect(t))
	ctx, cancel := context.WithTimeout(as(t, keys()["acme"]), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	stream, err := scripts.RunScript(ctx, &pb.RunScriptRequest{Source: "while true do end"})
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.DeadlineExceeded || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func keys() map[string]string {
	return map[string]string{
		"acme":   os.Getenv("LLMSPELL_KEY_ACME"),
		"globex": os.Getenv("LLMSPELL_KEY_GLOBEX"),
	}
}
