import { byId, element, get, showBehind, showError, t } from "./page.js";
import { showTables } from "./tables.js";

const run = await get("/api/run");
byId("profile").textContent = run.profile;
showBehind(run.behind && !run.read_only);

function card(slide, number) {
  const place = element("div", { class: "tables", text: t("loading") });
  const state = element("p", { class: "small" });
  const meter = element("progress", { max: 1, value: 0 });
  const made = element(
    "li",
    { class: "card", "data-slide": number },
    element("h2", { text: slide.title }),
    element("p", { class: "soft small", text: t("fields_n", { n: slide.fields }) }),
    meter,
    state,
    place,
    element(
      "div",
      { class: "go" },
      element("a", { href: `/slides/${number}/cells`, text: t("open_cells") }),
      element("a", { href: `/slides/${number}/field`, text: t("open_field") }),
    ),
  );
  return { made, fill: () => fill(number, { place, state, meter, made }) };
}

async function fill(number, parts) {
  try {
    const found = await get(`/api/slides/${number}`);
    const { typed, reviewed, doubtful } = found.progress;
    parts.meter.max = Math.max(1, typed);
    parts.meter.value = Math.min(reviewed, typed);
    parts.meter.setAttribute("aria-label", t("reviewed_of", { n: reviewed, of: typed }));
    parts.state.textContent = [
      t("reviewed_of", { n: reviewed, of: typed }),
      t("doubtful_n", { n: doubtful }),
      found.approval ? found.approval.words : t("not_approved"),
    ].join(" · ");
    showTables(parts.place, found.tables.slice(0, 1));
    for (const text of found.advice) parts.place.append(element("p", { class: "small", text }));
    const flags = found.fields.flatMap((f) => Object.keys(f.flags).map((flag) => `${f.name}: ${run.flags[flag]}`));
    for (const text of flags) parts.place.append(element("p", { class: "small", text }));
  } catch (error) {
    showError(error.message);
  }
}

const cards = run.slides.map(card);
byId("slides").replaceChildren(...cards.map((one) => one.made));
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watch.unobserve(entry.target);
    cards[Number(entry.target.dataset.slide)].fill();
  }
});
for (const one of cards) watch.observe(one.made);
