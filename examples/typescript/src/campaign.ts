import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const api = createClient<paths>({
  baseUrl: process.env.HONGYAN_URL!,
  headers: { Authorization: `Bearer ${process.env.HONGYAN_API_KEY}` },
});

function must<T>({ data, error }: { data?: T; error?: { detail?: string; remedy?: string } }): T {
  if (data === undefined) {
    throw new Error(`${error?.detail} ${error?.remedy ?? ""}`);
  }
  return data;
}

const campaign = must(await api.POST("/v1/campaigns", {
  body: {
    name: "double-twelve", account: "shop", kind: "template",
    template: {
      template_id: "campaign",
      data: { thing1: { value: "{{.name}}，双十二见" }, thing2: { value: "满减已开启" }, time3: { value: "2026年12月12日 24:00" } },
    },
  },
}));
const path = { id: campaign.id };
const people = "openid,name\noABCdefGHIjklMNOpqrSTUvwxYZ0,小明\noABCdefGHIjklMNOpqrSTUvwxYZ1,小红\n";
const audience = must(await api.POST("/v1/campaigns/{id}/audience", { // resume: whoever runs this again finds it imported
  params: { path, query: { name: "people.csv", resume: true } },
  headers: { "Content-Type": "text/csv" }, body: people, bodySerializer: (text) => text,
}));
const check = must(await api.POST("/v1/campaigns/{id}/check", { params: { path }, body: {} }));
if (!check.fits) {
  throw new Error(check.problems.map((problem) => problem.what).join("; "));
}
must(await api.POST("/v1/campaigns/{id}/start", { params: { path } }));
let progress = must(await api.GET("/v1/campaigns/{id}", { params: { path } }));
while (!["done", "failed", "cancelled", "paused"].includes(progress.state)) {
  await new Promise((resolve) => setTimeout(resolve, 500));
  progress = must(await api.GET("/v1/campaigns/{id}", { params: { path } }));
}
const outcomes = must(await api.GET("/v1/campaigns/{id}/outcomes", { params: { path }, parseAs: "text" }));
console.log(audience.recipients, progress.state, progress.outcomes, outcomes);
