-- The last net under lib/book.py: no page carries a path of the machine that made it, papermill's
-- times or a notebook's tags. Quarto leaves these as attributes of the cells' Divs.
local function strip(element)
  for name, value in pairs(element.attributes) do
    local private = name:match("^quarto%-private") and (value:match('"papermill"') or value:match('"execution"'))
    if private or name == "notebook" or name == "tags" or name == "papermill" or name == "execution" then
      element.attributes[name] = nil
    end
  end
  return element
end

return { { Div = strip, Span = strip, CodeBlock = strip, Figure = strip } }
