import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["node_modules/"] },
  js.configs.recommended,
  {
    files: ["**/*.js"],
    languageOptions: { globals: { ...globals.browser, ...globals.node } },
    rules: {
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-unused-vars": "error",
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "Texts come from data: use textContent." },
        { property: "insertAdjacentHTML", message: "Texts come from data: use textContent." },
        { property: "fetch", message: "No network." },
      ],
    },
  },
];
