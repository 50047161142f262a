import { byId, post, showError } from "./page.js";

byId("name").focus();
byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("/api/sign-in", { name: byId("name").value });
    location.reload();
  } catch (error) {
    showError(error.message);
  }
});
document.querySelector("#sign-in button").disabled = false; // no form is sent before we listen
