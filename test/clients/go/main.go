// Lists rooms by the client that oapi-codegen makes of the OpenAPI document. The page size is a plain number.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/oapi-codegen/runtime/types"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(url string) error {
	ctx := context.Background()
	client, err := NewClientWithResponses(url)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("go-%d", os.Getpid())
	email := types.Email(name + "@example.org")
	account := AuthRegisterJSONRequestBody{Username: name, Email: email, Password: "a password of the client"}
	registered, err := client.AuthRegisterWithResponse(ctx, account)
	if err != nil {
		return err
	}
	if registered.JSON201 == nil {
		return fmt.Errorf("register answered %s: %s", registered.Status(), registered.Body)
	}
	withToken := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+registered.JSON201.Tokens.AccessToken)
		return nil
	}
	for _, room := range []string{name + " one", name + " two"} {
		if _, err := client.RoomsCreateWithResponse(ctx, RoomsCreateJSONRequestBody{Name: room}, withToken); err != nil {
			return err
		}
	}
	limit, me := 1, RoomsListParamsMember("me")
	listed, err := client.RoomsListWithResponse(ctx, &RoomsListParams{Limit: &limit, Member: &me}, withToken)
	if err != nil {
		return err
	}
	if listed.JSON200 == nil || len(*listed.JSON200) != 1 || (*listed.JSON200)[0].Name != name+" two" {
		return fmt.Errorf("a list of one room answered %s: %s", listed.Status(), listed.Body)
	}
	return nil
}
